//! Places in a document, for the paths and the words of findings.

use std::borrow::Cow;
use std::ops::Range;

use crate::manifest::{Node, json_path};
use crate::text::visible;

/// Where a value is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    above: Option<&'a Place<'a>>,
    step: Step<'a>,
    /// The key that leads to it, or the item itself; what is missing in it is reported here.
    pub key: &'a Range<usize>,
}

#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    pub fn root(key: &'a Range<usize>) -> Self {
        Self { above: None, step: Step::Key(""), key }
    }

    pub fn key(&'a self, name: &'a str, key: &'a Range<usize>) -> Self {
        Self { above: Some(self), step: Step::Key(name), key }
    }

    pub fn item(&'a self, index: usize, node: &'a Node) -> Self {
        Self { above: Some(self), step: Step::Index(index), key: &node.span }
    }

    /// As `spec.planeID`.
    pub fn path(&self) -> String {
        let Some(above) = self.above else {
            return String::new();
        };
        match self.step {
            Step::Key(name) => json_path(&above.path(), name),
            Step::Index(index) => format!("{}[{index}]", above.path()),
        }
    }

    /// The last word of the path, for a sentence.
    pub fn name(&self) -> Cow<'a, str> {
        match (self.above, self.step) {
            (None, _) => "a plane".into(),
            (_, Step::Key(name)) => visible(name),
            (Some(above), Step::Index(index)) => format!("{}[{index}]", above.name()).into(),
        }
    }
}
