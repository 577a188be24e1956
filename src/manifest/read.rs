//! YAML as kubectl and the API server read it, which is YAML 1.1 in the main, and JSON; with positions and budgets.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::OnceLock;

use base64::Engine as _;
use granit_parser::{Event, Options, Parser, ScalarStyle, Tag};
use rayon::prelude::*;

use super::dialect::{self, Before, Failed};
use super::error::Error;
use super::node::{Entry, Node, Value};

/// How much may be made of aliases in one document: each node weighs 32 and a byte of text 1. It grows with the
/// document, so that a file of many documents costs no more than a file of one.
const ALIAS_BUDGET: std::ops::RangeInclusive<usize> = 32 << 10..=16 << 20;
const ALIAS_BUDGET_PER_BYTE: usize = 64;
/// How often a document is read anew for what the parser is stricter in.
const TRIES: usize = 32;
/// How deep a document may be nested.
const DEPTH_LIMIT: usize = 255;

/// The text of a file and the documents in it.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub file: String,
    pub text: String,
    pub documents: Vec<Document>,
    /// What kept documents from being read, or will keep them from being accepted.
    pub faults: Vec<Fault>,
    /// Where lines begin, once somebody asks for a position.
    lines: OnceLock<Vec<usize>>,
}

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Counted from 1 in its file.
    pub number: usize,
    pub root: Node,
    /// The bytes of the file's text that were read with it, its directives and comments among them.
    pub part: Range<usize>,
}

/// Something wrong with the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub document: usize,
    pub span: Range<usize>,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The document could not be read.
    Syntax,
    /// A key is duplicated; the API server refuses that, and kubectl takes the last in silence.
    Duplicate,
}

impl Manifest {
    /// A text whose documents are read part by part.
    pub fn unread(file: String, text: String) -> Self {
        Self { file, text, documents: Vec::new(), faults: Vec::new(), lines: OnceLock::new() }
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let lines = self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        });
        let line = lines.partition_point(|start| *start <= offset);
        let start = lines[line - 1];
        let end = self.text.floor_char_boundary(offset);
        (line, self.text[start.min(end)..end].chars().count() + 1)
    }

    /// The first fault as an error, for commands that need all of the file.
    pub fn sound(&self) -> Result<(), Error> {
        self.faults.first().map_or(Ok(()), |fault| {
            let (line, column) = self.position(fault.span.start);
            Err(Error::Syntax { file: self.file.clone(), line, column, message: fault.message.clone() })
        })
    }
}

/// Reads all documents of a text. Empty ones are left out but counted.
pub fn parse(file: String, text: String) -> Manifest {
    let manifest = Manifest::unread(file, text);
    let read = in_runs(&manifest.text, |parts| {
        let mut all = Part::default();
        parts.iter().for_each(|part| all.join(parse_part(&manifest.text, part.clone())));
        all
    });
    let mut all = Part::default();
    read.into_iter().for_each(|part| all.join(part));
    Manifest { documents: all.documents, faults: all.faults, ..manifest }
}

/// Reads a text in runs of its parts: a large one on all cores, a few runs each, as some take longer than others.
pub fn in_runs<R: Send>(text: &str, read: impl Fn(&[Range<usize>]) -> R + Sync) -> Vec<R> {
    const LARGE: usize = 256 << 10;
    const RUNS_OF_CORE: usize = 8;
    let parts = parts(text);
    if text.len() < LARGE {
        return vec![read(&parts)];
    }
    let run = parts.len().div_ceil(RUNS_OF_CORE * rayon::current_num_threads()).max(1);
    parts.par_chunks(run).map(&read).collect()
}

/// What a part of a text holds.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub documents: Vec<Document>,
    pub faults: Vec<Fault>,
    /// How many documents there are, empty ones too.
    pub count: usize,
}

impl Part {
    /// Takes the part behind it.
    fn join(&mut self, mut next: Self) {
        next.documents.iter_mut().for_each(|document| document.number += self.count);
        next.faults.iter_mut().for_each(|fault| fault.document += self.count);
        self.documents.append(&mut next.documents);
        self.faults.append(&mut next.faults);
        self.count += next.count;
    }
}

/// Reads one part of a text, as [`parts`] cuts it. Its documents count from 1.
pub fn parse_part(text: &str, part: Range<usize>) -> Part {
    let mut own = Cow::Borrowed(&text[part.clone()]);
    let mut tries = 0;
    let mut read = loop {
        let mut reader = Reader::new(&own, tries < TRIES);
        let read = reader.read();
        let blank = std::mem::take(&mut reader.blank);
        if blank.is_empty() {
            break read;
        }
        blank_out(own.to_mut(), &blank);
        tries += 1;
    };
    for document in &mut read.documents {
        document.part = part.clone();
        document.root.shift(part.start);
    }
    for fault in &mut read.faults {
        fault.span = fault.span.start + part.start..fault.span.end + part.start;
    }
    read
}

/// Puts spaces where the API server's reader passes over something that the parser does not.
fn blank_out(text: &mut String, ranges: &[Range<usize>]) {
    let mut bytes = std::mem::take(text).into_bytes();
    ranges.iter().for_each(|range| bytes[range.clone()].fill(b' '));
    *text = String::from_utf8(bytes).unwrap_or_default();
}

/// Cuts a text at its document marks (YAML 1.1, 9.1) into parts that can be read by themselves, or behind each of
/// several JSON values.
pub fn parts(text: &str) -> Vec<Range<usize>> {
    if let Some(parts) = json_stream(text) {
        return parts;
    }
    let (mut parts, mut start, mut mark) = (Vec::new(), 0, 0);
    // A mark begins a line, so each is behind a line feed or at the text's beginning.
    while mark < text.len() {
        let mut rest = &text[mark..];
        // Byte order marks may begin a document (YAML 1.1, 5.2).
        if rest.starts_with(ORDER_MARK) && only_directives(&text[start..mark]) {
            rest = rest.trim_start_matches(ORDER_MARK);
        }
        let marks = rest.as_bytes().get(3).is_none_or(u8::is_ascii_whitespace);
        if marks && rest.starts_with("---") && !only_directives(&text[start..mark]) {
            parts.push(start..mark);
            start = mark;
        }
        let next = text[mark..].find('\n').map_or(text.len(), |end| mark + end + 1);
        if marks && rest.starts_with("...") {
            parts.push(start..next);
            start = next;
        }
        mark = next;
    }
    parts.push(start..text.len());
    parts.retain(|part| !part.is_empty());
    parts
}

const ORDER_MARK: char = '\u{feff}';

/// Whether nothing but directives, comments and blank lines is before a mark: these belong to what follows it.
fn only_directives(text: &str) -> bool {
    text.lines()
        .map(|line| line.trim_start_matches(ORDER_MARK))
        .all(|line| line.starts_with('%') || line.trim_start().starts_with('#') || line.trim().is_empty())
}

/// The objects of a text that holds several in JSON, one behind the other, as `jq -c` writes them.
fn json_stream(text: &str) -> Option<Vec<Range<usize>>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let mut parts = Vec::new();
    let mut start = 0;
    while let Some(value) = values.next() {
        value.ok()?;
        parts.push(start..values.byte_offset());
        start = values.byte_offset();
    }
    (parts.len() > 1).then_some(parts)
}

struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Built>,
    budget: usize,
    document: usize,
    faults: Vec<Fault>,
    /// What must be blanked out for the parser, which is stricter there; then the text is read anew.
    blank: Vec<Range<usize>>,
    /// Whether there may be another try.
    again: bool,
    /// Whether it is JSON, which the API server's YAML reader needn't understand.
    json: bool,
    /// Where the last event ended, and what it was.
    at: usize,
    before: Before,
    /// How many flow collections are open, and the columns of the open blocks.
    flow: usize,
    indents: Vec<usize>,
}

/// A node with what it weighs and how deep it goes.
#[derive(Clone)]
struct Built {
    node: Node,
    weight: usize,
    height: usize,
}

impl Built {
    fn leaf(span: Range<usize>, value: Value) -> Self {
        let weight = 32 + value.text_len();
        Self { node: Node { span, value }, weight, height: 1 }
    }
}

impl Value {
    fn text_len(&self) -> usize {
        if let Self::String(text) = self { text.len() } else { 0 }
    }
}

/// The entries of a mapping that is being read. From some number on its keys are looked up, not searched for.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    keys: HashSet<String>,
}

impl Entries {
    const FEW: usize = 16;

    /// Whether the key is new.
    fn add(&mut self, entry: Entry) -> bool {
        if self.list.len() == Self::FEW {
            self.keys = self.list.iter().map(|entry| entry.key.clone()).collect();
        }
        let new = if self.list.len() < Self::FEW {
            self.list.iter().all(|other| other.key != entry.key)
        } else {
            self.keys.insert(entry.key.clone())
        };
        self.list.push(entry);
        new
    }
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, again: bool) -> Self {
        let mut options = Options::default();
        options.emit_comments = false;
        options.flow_nesting_limit = DEPTH_LIMIT;
        options.block_nesting_limit = DEPTH_LIMIT;
        options.block_scalar_eof_without_line_feed = true;
        options.bom_inside_document_as_content = true;
        let json = text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        Self {
            text,
            parser: Parser::new_from_str_with_options(text, options),
            anchors: HashMap::new(),
            budget: (text.len() * ALIAS_BUDGET_PER_BYTE).clamp(*ALIAS_BUDGET.start(), *ALIAS_BUDGET.end()),
            document: 0,
            faults: Vec::new(),
            blank: Vec::new(),
            again,
            json,
            at: 0,
            before: Before::Open,
            flow: 0,
            indents: Vec::new(),
        }
    }

    fn read(&mut self) -> Part {
        let mut documents = Vec::new();
        // Where the directives of the next document may begin.
        let mut from = 0;
        loop {
            match self.next() {
                Ok((Event::StreamEnd, _)) => break,
                Ok((Event::DocumentStart(_, version), range)) => {
                    self.document += 1;
                    self.anchors.clear();
                    (self.flow, self.before) = (0, Before::Open);
                    self.indents.clear();
                    if version.is_some_and(|version| (version.major, version.minor) != (1, 1)) {
                        self.fault((
                            range,
                            "only YAML 1.1 is what the API server reads: leave the %YAML line out".into(),
                        ));
                    }
                    if let Err(failed) = dialect::directives(self.text, from) {
                        self.fault(failed);
                    }
                    match self.document_root() {
                        Ok(Some(root)) => documents.push(Document { number: self.document, root, part: 0..0 }),
                        Ok(None) => {}
                        Err(failed) => {
                            if !self.recover(failed) {
                                break;
                            }
                        }
                    }
                }
                Ok((Event::DocumentEnd, range)) => from = range.start,
                Ok(_) => {}
                Err(failed) => {
                    self.document = self.document.max(1);
                    if !self.recover(failed) {
                        break;
                    }
                }
            }
        }
        Part { documents, faults: std::mem::take(&mut self.faults), count: self.document }
    }

    fn fault(&mut self, (span, message): Failed) {
        self.faults.push(Fault { kind: FaultKind::Syntax, document: self.document, span, message });
    }

    /// Notes the fault and goes on with the next document, if there is one.
    fn recover(&mut self, failed: Failed) -> bool {
        self.fault(failed);
        if !self.blank.is_empty() {
            return false;
        }
        self.parser.proceed_next_document().unwrap_or(false)
    }

    fn document_root(&mut self) -> Result<Option<Node>, Failed> {
        let (event, range) = self.next()?;
        let built = self.node(event, range, 1)?;
        Ok((!built.node.is_null()).then_some(built.node))
    }

    /// Returns the next event and the bytes that it is written in.
    fn next(&mut self) -> Result<(Event<'t>, Range<usize>), Failed> {
        match self.parser.next() {
            Some(Ok((event, span))) => {
                let range = span.byte_range();
                let written = self.written(range.clone().unwrap_or(0..0));
                self.look(&event, range.unwrap_or(self.at..self.at), written.clone())?;
                Ok((event, written))
            }
            Some(Err(error)) => {
                let at = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
                if self.again {
                    self.blank = dialect::passed_over(self.text, at, self.flow);
                }
                let info = error.info();
                // The parser points to the end of what is before a tab in the next line.
                if let Some(tab) = dialect::indenting_tab(self.text, at).filter(|_| info.contains("tab")) {
                    return Err((tab..tab + 1, dialect::TAB.into()));
                }
                let end = self.text[at..].find(['\r', '\n']).map_or(self.text.len(), |end| at + end);
                Err((at..end, info))
            }
            None => Ok((Event::StreamEnd, 0..0)),
        }
    }

    /// Whether what the parser took is what the API server's reader takes.
    fn look(&mut self, event: &Event<'t>, range: Range<usize>, written: Range<usize>) -> Result<(), Failed> {
        if self.json {
            return Ok(());
        }
        let seen = self.at.min(range.start);
        if range.start > self.at && range.start <= self.text.len() {
            let gap = self.at..range.start;
            let before = std::mem::replace(&mut self.before, Before::Other);
            // Where the gap goes on behind a collection's end, the same was before it.
            if matches!(event, Event::MappingEnd | Event::SequenceEnd) && range.is_empty() {
                self.before = before;
            } else {
                self.at = range.start;
                dialect::gap(self.text, gap, before, self.flow > 0)?;
            }
        }
        let indent = self.indents.last().copied();
        match event {
            Event::Scalar(_, style, ..) => {
                self.at = written.end.max(self.at);
                self.before = Before::Other;
                match style {
                    ScalarStyle::Plain if !written.is_empty() => {
                        dialect::plain(self.text, written, self.flow > 0, indent)?;
                        self.before = Before::Plain { indent };
                    }
                    ScalarStyle::DoubleQuoted => dialect::double_quoted(self.text, written)?,
                    ScalarStyle::Literal | ScalarStyle::Folded => {
                        self.before = Before::Open;
                        // Blanks at the end of its last line are its own.
                        self.at = range.end.clamp(self.at, self.text.len());
                        let header = self.text[seen..range.start].rfind(['|', '>']);
                        let header = header.map_or(range.start, |header| seen + header);
                        dialect::block(self.text, header, range.end)?;
                    }
                    _ => {}
                }
            }
            Event::Alias(_) => {
                self.at = written.end;
                dialect::name(self.text, written)?;
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                if self.flow > 0 || self.text[range.start..].starts_with(['{', '[']) && !range.is_empty() {
                    self.flow += 1;
                } else {
                    let line = self.text[..range.start].rfind('\n').map_or(0, |end| end + 1);
                    self.indents.push(range.start - line);
                }
                self.at = written.end.max(self.at);
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if self.flow > 0 {
                    self.flow -= 1;
                    self.at = written.end.max(self.at);
                    self.before = Before::Other;
                } else {
                    self.indents.pop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A span without the blanks at its end.
    fn written(&self, range: Range<usize>) -> Range<usize> {
        let end = range.end.min(self.text.len());
        let start = range.start.min(end);
        // A block's span reaches to the start of what follows it.
        start..start + self.text[start..end].trim_end().len()
    }

    fn node(&mut self, event: Event<'t>, range: Range<usize>, depth: usize) -> Result<Built, Failed> {
        if depth > DEPTH_LIMIT {
            return Err((range, format!("nested more than {DEPTH_LIMIT} deep")));
        }
        let (built, anchor) = match event {
            Event::Alias(id) => return self.alias(id, range, depth),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(text, style, tag.as_deref()).map_err(|message| (range.clone(), message))?;
                (Built::leaf(range, value), anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.sequence(range, depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.mapping(range, depth)?, anchor),
            other => return Err((range, format!("a value was expected here, not {other:?}"))),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        Ok(built)
    }

    fn alias(&mut self, id: usize, range: Range<usize>, depth: usize) -> Result<Built, Failed> {
        let Some(anchored) = self.anchors.get(&id) else {
            return Err((range, "this alias refers to a node that contains it".into()));
        };
        if depth + anchored.height > DEPTH_LIMIT {
            return Err((range, format!("with this alias, nested more than {DEPTH_LIMIT} deep")));
        }
        self.budget = self
            .budget
            .checked_sub(anchored.weight)
            .ok_or_else(|| (range.clone(), "the aliases of this document make too much of it".to_owned()))?;
        let mut built = anchored.clone();
        // The value is here; what is inside it, where it is anchored.
        built.node.span = range;
        Ok(built)
    }

    fn sequence(&mut self, start: Range<usize>, depth: usize) -> Result<Built, Failed> {
        let (mut items, mut weight, mut height) = (Vec::new(), 32, 0);
        loop {
            let (event, range) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                let span = start.start..self.close(range, items.last().map(|node: &Node| node.span.end), start.end);
                return Ok(Built { node: Node { span, value: Value::Sequence(items) }, weight, height: height + 1 });
            }
            let built = self.node(event, range, depth + 1)?;
            weight += built.weight;
            height = height.max(built.height);
            items.push(built.node);
        }
    }

    fn mapping(&mut self, start: Range<usize>, depth: usize) -> Result<Built, Failed> {
        let (mut entries, mut weight, mut height) = (Entries::default(), 32, 0);
        let mut merges = Vec::new();
        loop {
            let (event, range) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                for (key_span, node) in merges {
                    self.merge(&mut entries, key_span, node)?;
                }
                let span =
                    start.start..self.close(range, entries.list.last().map(|entry| entry.node.span.end), start.end);
                return Ok(Built {
                    node: Node { span, value: Value::Mapping(entries.list) },
                    weight,
                    height: height + 1,
                });
            }
            let merging = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, range, depth + 1)?.node;
            if self.flow > 0 && !self.json {
                dialect::flow_key(self.text, key.span.clone())?;
            }
            let (event, range) = self.next()?;
            let aliased = matches!(event, Event::Alias(_));
            let built = self.node(event, range, depth + 1)?;
            weight += built.weight + key.value.text_len();
            height = height.max(built.height);
            if merging {
                if aliased && matches!(built.node.value, Value::Sequence(_)) {
                    return Err((key.span, "`<<` takes a mapping, or a list of mappings that is written here".into()));
                }
                merges.push((key.span, built.node));
            } else {
                let name = key_text(key.value)
                    .ok_or_else(|| (key.span.clone(), "a key must be a text, a number or a boolean".to_owned()))?;
                self.insert(&mut entries, Entry { key: name, key_span: key.span, node: built.node });
            }
        }
    }

    /// The end of a collection: its closing bracket in flow style, in block style the end of its last value.
    fn close(&self, end: Range<usize>, last: Option<usize>, start: usize) -> usize {
        if self.text[end.clone()].ends_with([']', '}']) { end.end } else { last.unwrap_or(start).max(start) }
    }

    fn insert(&mut self, entries: &mut Entries, entry: Entry) {
        if entries.add(entry) {
            return;
        }
        if let Some(Entry { key, key_span, .. }) = entries.list.last() {
            self.faults.push(Fault {
                kind: FaultKind::Duplicate,
                document: self.document,
                span: key_span.clone(),
                message: format!("the key `{}` is duplicated in its mapping", crate::text::visible(key)),
            });
        }
    }

    /// `<<: *a` or `<<: [*a, *b]`: the entries of other mappings.
    fn merge(&mut self, entries: &mut Entries, key_span: Range<usize>, node: Node) -> Result<(), Failed> {
        match node.value {
            Value::Mapping(merged) => {
                for entry in merged {
                    self.insert(entries, Entry { key_span: key_span.clone(), ..entry });
                }
                Ok(())
            }
            Value::Sequence(nodes) if nodes.iter().all(|node| matches!(node.value, Value::Mapping(_))) => {
                nodes.into_iter().try_for_each(|node| self.merge(entries, key_span.clone(), node))
            }
            _ => Err((key_span, "`<<` takes a mapping, or a list of mappings".into())),
        }
    }
}

/// A key as the text that it becomes in JSON.
fn key_text(key: Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    // Any other tag says that it is no plain scalar, and so a text.
    let tag = tag.map(|tag| if tag.handle() == "tag:yaml.org,2002:" { tag.suffix() } else { "str" });
    // A control character is below a space, or it is DEL, or it begins with the byte C2.
    let may_control = |byte: u8| byte < b' ' || byte == 0x7f || byte == 0xc2;
    if style != ScalarStyle::DoubleQuoted
        && text.bytes().any(may_control)
        && let Some(c) = text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'))
    {
        return Err(format!("the control character U+{:04X} is not allowed in YAML", u32::from(c)));
    }
    // A line separator ends the line, so at the end of a plain scalar it is none of its text.
    let separators = [' ', '\t', '\u{85}', '\u{2028}', '\u{2029}'];
    let text = if style == ScalarStyle::Plain { text.trim_end_matches(separators) } else { &text };
    match tag {
        Some("binary") => {
            let compact = text.replace(['\r', '\n'], "");
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(compact).map_err(|_| "`!!binary` is not base64")?;
            String::from_utf8(bytes).map(Value::String).map_err(|_| "`!!binary` is not text".into())
        }
        Some(name @ ("bool" | "int" | "float" | "null" | "timestamp")) => tagged(name, text),
        None if style == ScalarStyle::Plain => plain(text),
        // To any other name it is a text.
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// A scalar whose tag names its type: it must be of that type without the tag, too.
fn tagged(name: &str, text: &str) -> Result<Value, String> {
    let value = plain(text)?;
    let fits = match &value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "bool",
        Value::Number(number) => {
            name == "float" || (name == "int" && number.is_i64() && !text.contains(['.', 'e', 'E']))
        }
        _ => name == "timestamp" && text.starts_with(|c: char| c.is_ascii_digit()),
    };
    if fits { Ok(value) } else { Err(format!("`{}` is no `!!{name}`", crate::text::visible(text))) }
}

/// The type of a plain scalar, as the API server's YAML reader takes it: YAML 1.1, without its base 60 and its times.
fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Ok(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => {
            return Err(format!("`{text}` is a number that JSON, and so the API server, doesn't have"));
        }
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Ok(Value::String(text.to_owned()));
    }
    let digits = text.replace('_', "");
    Ok(integer(&digits).or_else(|| float(&digits)).map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

fn integer(text: &str) -> Option<serde_json::Number> {
    let (negative, magnitude) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = magnitude.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    match i64::try_from(value) {
        _ if negative => 0_i64.checked_sub_unsigned(value).map(Into::into),
        Ok(value) => Some(value.into()),
        Err(_) => serde_json::Number::from_f64(value as f64),
    }
}

fn float(text: &str) -> Option<serde_json::Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) || !exponent_fits {
        return None;
    }
    let value = text.parse::<f64>().ok()?;
    // JSON writes a whole number without a fraction, and so it is an integer to the API server.
    let whole = value.fract() == 0.0 && value.abs() < MAX_INTEGER;
    if whole { Some((value as i64).into()) } else { serde_json::Number::from_f64(value) }
}

/// 2^63: the API server holds larger integers as floating-point numbers.
const MAX_INTEGER: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Manifest {
        parse("f.yaml".into(), text.into())
    }

    fn value(text: &str) -> serde_json::Value {
        let manifest = read(text);
        assert_eq!(manifest.faults, [], "{text}");
        manifest.documents[0].root.to_json()
    }

    #[test]
    fn a_line_separator_at_the_end_of_a_plain_scalar_is_none_of_it() {
        for separator in ['\u{85}', '\u{2028}', '\u{2029}'] {
            let text = format!("a: {separator}\nb: x{separator}\nc: [w {separator} , z]\nd: !!str {separator}\n");
            assert_eq!(value(&text), json!({"a": null, "b": "x", "c": ["w", "z"], "d": ""}), "{text:?}");
            assert_eq!(value(&format!("a: \"{separator}\"\n"))["a"].as_str().unwrap().chars().count(), 1);
            assert!(fault(&format!("a: x{separator}y\n")).message.contains("use quotes"));
        }
    }

    fn fault(text: &str) -> Fault {
        read(text).faults.into_iter().next().unwrap_or_else(|| panic!("no fault in {text:?}"))
    }

    #[test]
    fn plain_scalars_have_the_types_of_yaml_1_1() {
        for word in ["y", "Yes", "ON", "true"] {
            assert_eq!(value(&format!("a: {word}")), json!({"a": true}), "{word}");
        }
        for word in ["n", "No", "OFF", "False"] {
            assert_eq!(value(&format!("a: {word}")), json!({"a": false}), "{word}");
        }
        for (text, number) in [
            ("0123", json!(83)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("+1", json!(1)),
            ("-7", json!(-7)),
            ("1e3", json!(1000)),
            (".5", json!(0.5)),
            ("08", json!(8)),
        ] {
            assert_eq!(value(&format!("a: {text}"))["a"], number, "{text}");
        }
        for text in ["~", "null", "Null", ""] {
            assert_eq!(value(&format!("a: {text}")), json!({"a": null}), "{text}");
        }
        for text in ["2001-01-01", "190:20:30", "12:30", "=", "<<", "yEs", "0x", "1.2.3", "-", "e3", "+", "1e", "0x-1"]
        {
            assert_eq!(value(&format!("a: {text}").replace("a: -", "a: '-'")), json!({"a": text}), "{text}");
        }
        assert!(fault("a: .inf").message.contains(".inf"));
    }

    #[test]
    fn merges_bring_entries_and_their_doubles() {
        let text = "b: &b {x: 1}\na:\n  <<: *b\n  z: 2\n";
        assert_eq!(value(text)["a"], json!({"z": 2, "x": 1}));
        let doubled = fault("b: &b {x: 1}\na:\n  <<: *b\n  x: 2\n");
        assert_eq!(doubled.kind, FaultKind::Duplicate);
    }

    #[test]
    fn what_the_server_accepts_is_accepted() {
        for text in [
            "a: 1\r\nb: 2\r\n",
            "a:\t1\n",
            "%YAML 1.1\n---\na: 1\n",
            "a: &x [1, 2,]\nb: *x\n",
            "a: [\n\t1,\n\t\t{\n\tb: 1}]\n",
            "a: \"x\"# c\nb: [x]# c\nc: [1,# c\n 2]\nd: |# c\n  x\n",
            "a: |\n  x\t\nb: 1\n",
            "a:\n  b: >-\n    x\n    \t\nc: 1\n",
            "{\"a\": \"\\u00e9\\/\"}",
            "{\n\t\"a\": 1\n}",
        ] {
            assert!(value(text).is_object(), "{text}");
        }
    }

    #[test]
    fn what_the_server_refuses_is_refused() {
        for text in [
            "a:\n\tb: 1\n",
            "%YAML 1.2\n---\na: 1\n",
            "a: *x\n",
            "a: &x [*x]\n",
            "? [a]\n: 1\n",
            "a: \u{7}\n",
            "a: [1\n",
            "a: 1\na: 2\n",
        ] {
            fault(text);
        }
    }

    #[test]
    fn bombs_stay_small() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
        }
        assert!(fault(&bomb).message.contains("too much"));
        assert!(read(&"[".repeat(10_000)).faults.len() == 1);
        let wide: String = (0..200_000).map(|i| format!("k{i}: 1\n")).collect();
        let read_wide = read(&format!("{wide}k5: 2\n"));
        assert_eq!(read_wide.faults.len(), 1);
        assert_eq!(read_wide.position(read_wide.faults[0].span.start), (200_001, 1));
        let deep: String = (0..10_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert_eq!(read(&deep).faults.len(), 1);
    }

    #[test]
    fn documents_after_a_broken_one_are_read() {
        let manifest = read("a: [\n---\nb: 1\n---\n---\nc: 2\n");
        assert_eq!(manifest.faults.len(), 1);
        assert_eq!(manifest.documents.last().unwrap().root.to_json(), json!({"c": 2}));
    }

    #[test]
    fn json_objects_may_follow_each_other() {
        let manifest = read("{\"a\": 1}\n{\"b\": 2}{\"c\": 3}\n");
        assert_eq!(manifest.faults, []);
        assert_eq!(manifest.documents.iter().map(|document| document.number).collect::<Vec<_>>(), [1, 2, 3]);
        let span = manifest.documents[1].root.get("b").unwrap().span.clone();
        assert_eq!((&manifest.text[span.clone()], manifest.position(span.start)), ("2", (2, 7)));
        assert!(!read("{\"a\": 1}\n{\"b\": }\n").faults.is_empty());
    }

    #[test]
    fn spans_cover_keys_and_values() {
        let text = "ü: 'x'\nspec:\n  a: &n\n    b: >-\n      one\n      two\n  c: {d: [1, 2]}\n";
        let manifest = read(text);
        let root = &manifest.documents[0].root;
        let at = |path: &[&str]| &text[root.at(path).unwrap().span.clone()];
        assert_eq!(at(&["ü"]), "'x'");
        assert_eq!(at(&["spec", "c"]), "{d: [1, 2]}");
        assert_eq!(at(&["spec", "c", "d"]), "[1, 2]");
        assert_eq!(at(&["spec", "a", "b"]), "one\n      two");
        assert_eq!(&text[root.get("spec").unwrap().entry("a").unwrap().key_span.clone()], "a");
        assert_eq!(manifest.position(root.at(&["spec", "c"]).unwrap().span.start), (7, 6));
    }

    /// Where keys and scalars are, but for empty ones: these have no text of their own.
    fn places(node: &Node) -> Vec<Range<usize>> {
        match &node.value {
            Value::Mapping(entries) => {
                entries.iter().flat_map(|entry| [vec![entry.key_span.clone()], places(&entry.node)].concat()).collect()
            }
            Value::Sequence(items) => items.iter().flat_map(places).collect(),
            Value::Null => vec![],
            Value::String(text) if text.trim().is_empty() => vec![],
            _ => vec![node.span.clone()],
        }
    }

    /// What makes streams of documents: marks where they count and where they do not, and what goes across a line.
    const PIECES: &str = "(---\n|--- a\n|---\t# c\n|--- \\|\n|--- >-\n|---a\n| ---\n|\\.\\.\\.\n|\\.\\.\\. # c\n|%YAML 1\\.1\n|%TAG ! tag:x,1:\n|%X\n|# ---\n|\n|\r\n|---\r\n|\u{feff}|a: 1\n|b: \\|\n|b: >\n|c: \"|\"\n|'\n|  x\n|  x: y\n|x\n|- z\n|d: &n \\{e: 2}\n|f: \\*n\n|g: \\[1,\n|\\]\n|\\{|\\}\n|\\? k\n|: v\n|a: 2 # c\n|\tt\n|\u{e9}: \u{1f600}\n){0,14}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        /// A mark ends a document in every context, so a part can be read without the others.
        #[test]
        fn parts_are_read_as_the_whole_is(text in PIECES) {
            let whole = parse_part(&text, 0..text.len());
            let split = read(&text);
            prop_assert_eq!(whole.faults.is_empty(), split.faults.is_empty(), "{:?} and {:?}", whole.faults, split.faults);
            // How a reader goes on behind what it can't read is its own matter; the parts make it the same for all.
            let sound = whole.faults.iter().chain(&split.faults).map(|fault| fault.document).min().unwrap_or(usize::MAX);
            let of = |documents: &[Document]| {
                let sound = documents.iter().filter(|document| document.number < sound);
                sound.map(|document| (document.number, document.root.to_json(), places(&document.root))).collect::<Vec<_>>()
            };
            prop_assert_eq!(of(&whole.documents), of(&split.documents));
            // The parts leave nothing out.
            let parts = parts(&text);
            prop_assert_eq!(parts.iter().map(|part| &text[part.clone()]).collect::<String>(), text);
        }

    }

    proptest! {
        // Each case reads a quarter of a megabyte.
        #![proptest_config(ProptestConfig::with_cases(4))]
        #[test]
        fn a_large_text_is_read_as_a_small_one(texts in prop::collection::vec(PIECES, 1..8)) {
            let stream = texts.join("\n---\n");
            let repeated = format!("{stream}\n---\n").repeat((256 << 10) / (stream.len() + 5) + 2);
            let (large, one_by_one) = (read(&repeated), parts(&repeated));
            let mut small = Part::default();
            one_by_one.into_iter().for_each(|part| small.join(parse_part(&repeated, part)));
            let of = |documents: &[Document]| {
                documents.iter().map(|document| (document.number, document.part.clone(), document.root.clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(of(&large.documents), of(&small.documents));
            prop_assert_eq!(large.faults, small.faults);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-c]: |- |\\[|\\]|\\{|\\}|\n|  |'|\"|&a |\\*a|<<: |\\||>|---|#|,|!!str |\u{e9}|\t){0,40}") {
            let manifest = read(&text);
            for fault in &manifest.faults {
                manifest.position(fault.span.start);
                prop_assert!(text.get(fault.span.clone()).is_some());
            }
        }
    }
}
