//! The two families of OpenChoreo releases that a manifest can be meant for.

use std::fmt;
use std::str::FromStr;

/// The releases whose schemas are alike: v0.15 to v0.17, and v1.0 to v1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    V0,
    V1,
}

impl Release {
    pub const ALL: [Self; 2] = [Self::V0, Self::V1];

    /// Returns the last release of the family, as `v1.2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V0 => "v0.17",
            Self::V1 => "v1.2",
        }
    }

    /// Returns all releases of the family, in words.
    pub fn span(self) -> &'static str {
        match self {
            Self::V0 => "v0.15 to v0.17",
            Self::V1 => "v1.0 and later",
        }
    }

    /// Returns the name of the field of `clientCA` that refers to a Secret.
    pub fn secret_field(self) -> &'static str {
        match self {
            Self::V0 => "secretRef",
            Self::V1 => "secretKeyRef",
        }
    }

    /// Returns the version of the charts that are installed by default.
    pub fn chart_version(self) -> &'static str {
        match self {
            Self::V0 => "0.17.0",
            Self::V1 => "1.2.3",
        }
    }

    /// Returns the other one.
    pub fn other(self) -> Self {
        if self == Self::V0 { Self::V1 } else { Self::V0 }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Release {
    type Err = String;

    /// Reads any release by its version: `v1.0`, `1.2.3`, `v0.17`.
    fn from_str(text: &str) -> Result<Self, String> {
        let version = text.strip_prefix('v').unwrap_or(text);
        let mut parts = version.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next()) {
            (Some(Ok(0)), Some(Ok(15..=17))) if parts.all(|part| part.is_ok()) => Ok(Self::V0),
            (Some(Ok(1)), None | Some(Ok(_))) if parts.all(|part| part.is_ok()) => Ok(Self::V1),
            _ => Err(format!("a release is {}", Self::ALL.map(Self::name).join(" or "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_named_by_any_of_its_versions() {
        for (text, release) in
            [("v0.17", Release::V0), ("0.15.1", Release::V0), ("v1.2", Release::V1), ("1", Release::V1)]
        {
            assert_eq!(text.parse(), Ok(release), "{text}");
        }
        for text in ["", "v2", "v0.14", "latest", "v1.x"] {
            assert!(text.parse::<Release>().is_err(), "{text}");
        }
        for release in Release::ALL {
            assert_eq!(release.to_string().parse(), Ok(release));
            assert_ne!(release.secret_field(), release.other().secret_field());
        }
    }
}
