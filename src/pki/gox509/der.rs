//! DER (X.690), as strictly as Go's cryptobyte reads it: definite and shortest lengths, and tags of one octet.

use jiff::civil::DateTime;

/// The octet that says what an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u8);

impl Tag {
    pub const BOOLEAN: Self = Self(0x01);
    pub const INTEGER: Self = Self(0x02);
    pub const BIT_STRING: Self = Self(0x03);
    pub const OCTET_STRING: Self = Self(0x04);
    pub const OID: Self = Self(0x06);
    pub const UTF8_STRING: Self = Self(0x0c);
    pub const NUMERIC_STRING: Self = Self(0x12);
    pub const PRINTABLE_STRING: Self = Self(0x13);
    pub const T61_STRING: Self = Self(0x14);
    pub const IA5_STRING: Self = Self(0x16);
    pub const UTC_TIME: Self = Self(0x17);
    pub const GENERALIZED_TIME: Self = Self(0x18);
    pub const BMP_STRING: Self = Self(0x1e);
    pub const SEQUENCE: Self = Self(0x30);
    pub const SET: Self = Self(0x31);

    /// Context-specific and primitive.
    pub const fn context(number: u8) -> Self {
        Self(0x80 | number)
    }

    /// Context-specific and constructed.
    pub const fn constructed(number: u8) -> Self {
        Self(0xa0 | number)
    }
}

/// Why Go can't parse something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

pub type Parsed<T> = Result<T, Malformed>;

pub fn need<T>(value: Option<T>, what: &'static str) -> Parsed<T> {
    value.ok_or(Malformed(what))
}

pub(super) fn broken<T>(what: &'static str) -> Parsed<T> {
    Err(Malformed(what))
}

/// Reads elements one behind the other. What can't be read is none, and nothing is consumed.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// A BIT STRING's octets, and how many of its bits count.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    octets: &'a [u8],
    length: usize,
}

impl Bits<'_> {
    /// Whether a bit is set, counted from the first octet's highest.
    pub fn is_set(self, index: usize) -> bool {
        index < self.length && self.octets[index / 8] >> (7 - index % 8) & 1 == 1
    }
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// Reads what is in the SEQUENCE that a text begins with; fails with `what` where it begins with something else.
    pub fn sequence(der: &'a [u8], what: &'static str) -> Parsed<Self> {
        need(Self::new(der).read(Tag::SEQUENCE), what).map(Self::new)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn peek(&self) -> Option<Tag> {
        self.rest.first().copied().map(Tag)
    }

    /// The next element whole, and its content.
    fn element(&mut self) -> Option<(Tag, &'a [u8], &'a [u8])> {
        let [tag, first, after @ ..] = self.rest else {
            return None;
        };
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, header) = if *first < 0x80 {
            (usize::from(*first), 2)
        } else {
            let octets = usize::from(first & 0x7f);
            let number = after.get(..octets).filter(|_| (1..=4).contains(&octets))?;
            let length = number.iter().fold(0_usize, |length, octet| length << 8 | usize::from(*octet));
            // The shortest form only.
            if length < 0x80 || number[0] == 0 {
                return None;
            }
            (length, 2 + octets)
        };
        let whole = self.rest.get(..header.checked_add(length)?)?;
        self.rest = &self.rest[whole.len()..];
        Some((Tag(*tag), whole, &whole[header..]))
    }

    fn tagged(&mut self, tag: Tag) -> Option<(&'a [u8], &'a [u8])> {
        let mut after = *self;
        let (_, whole, content) = after.element().filter(|(found, ..)| *found == tag)?;
        *self = after;
        Some((whole, content))
    }

    /// The content of an element of this tag.
    pub fn read(&mut self, tag: Tag) -> Option<&'a [u8]> {
        self.tagged(tag).map(|(_, content)| content)
    }

    /// The content of an element that may be left out; fails with `what` where it is there and broken.
    pub fn read_optional(&mut self, tag: Tag, what: &'static str) -> Parsed<Option<&'a [u8]>> {
        if self.peek() == Some(tag) { need(self.read(tag), what).map(Some) } else { Ok(None) }
    }

    /// The same with its header.
    pub fn read_whole(&mut self, tag: Tag) -> Option<&'a [u8]> {
        self.tagged(tag).map(|(whole, _)| whole)
    }

    pub fn read_any(&mut self) -> Option<(Tag, &'a [u8])> {
        self.element().map(|(tag, _, content)| (tag, content))
    }

    pub fn read_any_whole(&mut self) -> Option<&'a [u8]> {
        self.element().map(|(_, whole, _)| whole)
    }

    pub fn read_boolean(&mut self) -> Option<bool> {
        match self.read(Tag::BOOLEAN)? {
            [0] => Some(false),
            [0xff] => Some(true),
            _ => None,
        }
    }

    /// The content of an OBJECT IDENTIFIER whose arcs are written in the shortest form and have 31 bits at most.
    pub fn read_oid(&mut self) -> Option<&'a [u8]> {
        let mut after = *self;
        let short = |arc: &[u8]| arc.len() < 5 || (arc.len() == 5 && arc[0] & 0x7f < 8);
        let is_short = |content: &&[u8]| content.split_inclusive(|octet| octet & 0x80 == 0).all(short);
        let content = after.read_long_oid().filter(is_short)?;
        *self = after;
        Some(content)
    }

    /// The same with arcs of any size.
    pub fn read_long_oid(&mut self) -> Option<&'a [u8]> {
        let mut after = *self;
        let content = after.read(Tag::OID)?;
        let mut arcs = content.split_inclusive(|octet| octet & 0x80 == 0);
        let is_sound = content.last().is_some_and(|last| last & 0x80 == 0) && arcs.all(|arc| arc[0] != 0x80);
        is_sound.then(|| {
            *self = after;
            content
        })
    }

    pub fn read_bit_string(&mut self) -> Option<Bits<'a>> {
        let (unused, octets) = self.read(Tag::BIT_STRING)?.split_first()?;
        let unused = usize::from(*unused);
        let last = octets.last().copied().unwrap_or_default();
        let sound = unused < 8 && (unused == 0 || !octets.is_empty()) && u32::from(last) & ((1 << unused) - 1) == 0;
        sound.then(|| Bits { octets, length: 8 * octets.len() - unused })
    }

    /// A BIT STRING as octets; unused bits go to the front, as Go aligns them.
    pub fn read_bits(&mut self) -> Option<Vec<u8>> {
        let Bits { octets, length } = self.read_bit_string()?;
        let shift = 8 * octets.len() - length;
        if shift == 0 {
            return Some(octets.to_vec());
        }
        let before = std::iter::once(&0).chain(octets);
        Some(before.zip(octets).map(|(high, low)| high << (8 - shift) | low >> shift).collect())
    }
}

/// Whether the content of an INTEGER is in the shortest form.
pub(super) fn is_integer(content: &[u8]) -> bool {
    match content {
        [] => false,
        [_] => true,
        [first, second, ..] => !(*first == 0 && second & 0x80 == 0 || *first == 0xff && second & 0x80 != 0),
    }
}

/// Whether an INTEGER is above 0.
pub(super) fn is_positive(content: &[u8]) -> bool {
    is_integer(content) && content[0] & 0x80 == 0 && content != [0]
}

/// An INTEGER of 64 bits at most.
pub(super) fn signed(content: &[u8]) -> Option<i64> {
    if !is_integer(content) || content.len() > 8 {
        return None;
    }
    let sign = if content[0] & 0x80 == 0 { 0 } else { -1 };
    Some(content.iter().fold(sign, |number, octet| number << 8 | i64::from(*octet)))
}

/// How many bits a positive INTEGER has.
pub(super) fn bit_length(content: &[u8]) -> usize {
    let significant = content.strip_prefix(&[0]).unwrap_or(content);
    significant.first().map_or(0, |first| 8 * significant.len() - first.leading_zeros() as usize)
}

/// A time in seconds since 1970, in UTC or with an offset; UTCTime may leave the seconds out.
pub(super) fn time(tag: Tag, text: &str) -> Option<i64> {
    let (digits, zone) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<i16>().ok();
    let (year, at) = match tag {
        // RFC 5280, 4.1.2.5.1: the years 1950 to 2049.
        Tag::UTC_TIME => (number(0, 2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        Tag::GENERALIZED_TIME => (number(0, 4)?, 4),
        _ => return None,
    };
    let seconds = match digits.len() - at {
        10 => number(at + 8, at + 10)?,
        8 if tag == Tag::UTC_TIME => 0,
        _ => return None,
    };
    let two = |offset: usize| number(at + offset, at + offset + 2).and_then(|number| i8::try_from(number).ok());
    let civil = DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, seconds as i8, 0).ok()?;
    let offset = match zone.as_bytes() {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), numbers @ ..] if numbers.len() == 4 && numbers.iter().all(u8::is_ascii_digit) => {
            let digit = |index: usize| i64::from(numbers[index] - b'0');
            let (hours, minutes) = (10 * digit(0) + digit(1), 10 * digit(2) + digit(3));
            let seconds = 3600 * hours + 60 * minutes;
            // Zero is written as Z.
            if seconds == 0 || hours > 23 || minutes > 59 {
                return None;
            }
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    Some(civil.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_secs() - offset)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes an element.
    pub fn element(tag: Tag, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32).to_be_bytes();
        let significant: Vec<u8> = length.iter().copied().skip_while(|octet| *octet == 0).collect();
        let header = match content.len() {
            0..0x80 => vec![tag.0, length[3]],
            _ => [vec![tag.0, 0x80 | significant.len() as u8], significant].concat(),
        };
        [&header, content].concat()
    }

    #[test]
    fn lengths_are_definite_and_shortest() {
        let read = |der: &[u8]| Reader::new(der).read(Tag::OCTET_STRING).map(<[u8]>::to_vec);
        assert_eq!(read(&[4, 1, 7]), Some(vec![7]));
        let long = [&[4, 0x81, 0x80][..], &[0; 128]].concat();
        assert_eq!(read(&long).map(|content| content.len()), Some(128));
        for bad in [
            &[4, 0x80][..],
            &[4, 0x81, 1, 7],
            &[4, 0x82, 0, 0x80],
            &[4, 2, 7],
            &[4],
            &[0x1f, 1, 0],
            &[4, 0x85, 1, 1, 1, 1, 1],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_bits_and_names_are_read() {
        assert_eq!(
            [&[0][..], &[0x7f], &[0xff], &[0, 0x80], &[0x80, 0]].map(signed),
            [Some(0), Some(127), Some(-1), Some(128), Some(-32768)]
        );
        assert_eq!([&[][..], &[0, 1], &[0xff, 0x80], &[0; 9]].map(signed), [None; 4]);
        assert_eq!([&[0, 0xff][..], &[1], &[0]].map(bit_length), [8, 1, 0]);
        let bits = Reader::new(&[3, 2, 5, 0xa0]).read_bit_string().unwrap();
        assert_eq!([0, 1, 2, 3].map(|bit| bits.is_set(bit)), [true, false, true, false]);
        assert_eq!(Reader::new(&[3, 2, 4, 0xa0]).read_bits(), Some(vec![0x0a]));
        assert!(Reader::new(&[3, 2, 5, 0xa1]).read_bit_string().is_none());
        assert!(Reader::new(&[6, 2, 0x80, 1]).read_oid().is_none() && Reader::new(&[6, 1, 0x81]).read_oid().is_none());
        assert_eq!(Reader::new(&[6, 3, 0x55, 0x1d, 0x11]).read_oid(), Some(&[0x55, 0x1d, 0x11][..]));
    }

    #[test]
    fn times_are_read() {
        let utc = |text: &str| time(Tag::UTC_TIME, text);
        assert_eq!(utc("700101000000Z"), Some(0));
        assert_eq!(utc("261122120000Z"), Some(1_795_348_800));
        assert_eq!(utc("2611221200Z"), Some(1_795_348_800));
        assert_eq!(utc("261122130000+0100"), Some(1_795_348_800));
        assert_eq!(utc("500101000000Z"), Some(-631_152_000));
        assert_eq!(time(Tag::GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for bad in ["", "261122120000", "261322120000Z", "261122120000+0000", "26112212000Z", "261122120060Z", "x"] {
            assert_eq!(utc(bad), None, "{bad}");
        }
    }
}
