//! The plane types that a gateway knows, which show its releases.

use std::fmt;

use crate::plane::{KINDS, Release};

/// The plane types that a gateway knows, as it lists them where it refuses another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneTypes(Vec<String>);

/// How the gateway's refusal of a plane type begins.
const REFUSAL: &str = "invalid planeType";

impl PlaneTypes {
    /// Reads the gateway's refusal of a plane type, which quotes those that it knows; none of another text.
    pub fn of_refusal(text: &str) -> Option<Self> {
        let list = text.strip_prefix(REFUSAL)?;
        Some(Self(list.split('\'').skip(1).step_by(2).map(str::to_owned).collect()))
    }

    /// Whether the gateway takes agents of this type.
    pub fn knows(&self, plane_type: &str) -> bool {
        self.0.iter().any(|known| known == plane_type)
    }

    /// Returns the releases whose plane types these are; none where they are those of no release that is known.
    pub fn release(&self) -> Option<Release> {
        let all_of = |release: &Release| {
            KINDS
                .iter()
                .filter(|kind| kind.family.releases.contains(release))
                .all(|kind| self.knows(kind.family.plane_type))
        };
        Release::ALL.into_iter().find(all_of)
    }
}

/// As `OpenChoreo v1.0 and later`, or as the list of what is known.
impl fmt::Display for PlaneTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.release() {
            Some(release) => write!(f, "OpenChoreo {}", release.span()),
            None => write!(f, "a release with the plane types {}", crate::text::visible(&self.0.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plane_types_tell_a_gateways_releases() {
        let of = |types: &str| PlaneTypes::of_refusal(&format!("invalid planeType: must be {types}")).unwrap();
        let early = of("'dataplane', 'buildplane', or 'observabilityplane'");
        assert_eq!((early.release(), early.to_string().as_str()), (Some(Release::V0), "OpenChoreo v0.15 to v0.17"));
        let late = of("'dataplane', 'workflowplane', or 'observabilityplane'");
        assert_eq!((late.release(), late.to_string().as_str()), (Some(Release::V1), "OpenChoreo v1.0 and later"));
        assert!(late.knows("workflowplane") && !late.knows("buildplane"));
        // One more of a later release is no reason to doubt.
        assert_eq!(
            of("'dataplane', 'workflowplane', 'edgeplane', or 'observabilityplane'").release(),
            Some(Release::V1)
        );
        let other = of("'edgeplane'");
        assert_eq!((other.release(), other.to_string().as_str()), (None, "a release with the plane types edgeplane"));
        for text in ["", "Bad Request", "missing planeType parameter"] {
            assert_eq!(PlaneTypes::of_refusal(text), None, "{text}");
        }
    }
}
