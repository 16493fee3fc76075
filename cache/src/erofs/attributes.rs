//! Extended attributes: what of them a file system keeps, and each distinct set of them once.
//!
//! What an inode has is a number here; most have none, and many have the same. Knows the prefixes
//! that the format has numbers for, not how attributes are laid out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::layer::{Entry, Kind};

/// The prefixes of names and the numbers the format has for them (`EROFS_XATTR_INDEX_*`). The
/// first is in no image as such: what it stands for is [`ACCESS_ACL`] alone.
const PREFIXES: [(&[u8], u8); 5] =
    [(ACCESS_ACL, 2), (DEFAULT_ACL, 3), (b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// The longest value: 16 bits say how long it is.
const LONGEST_VALUE: usize = u16::MAX as usize;

/// The longest name with its prefix.
const LONGEST_NAME: usize = 255;

/// The number of the empty set.
pub(super) const NO_ATTRIBUTES: u32 = 0;

/// An extended attribute as the format says it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attribute {
    /// The number of its prefix.
    pub(super) prefix: u8,
    /// The rest of its name.
    pub(super) name: Box<[u8]>,
    pub(super) value: Box<[u8]>,
}

impl Attribute {
    /// The mark of a directory that hides those below it.
    pub(super) fn opaque() -> Self {
        Self { prefix: 4, name: b"overlay.opaque".as_slice().into(), value: b"y".as_slice().into() }
    }

    /// Returns how long it is with its header and the padding after it.
    pub(super) fn encoded_size(&self) -> u64 {
        (4 + self.name.len() + self.value.len()).next_multiple_of(4) as u64
    }

    fn has_name_of(&self, other: &Self) -> bool {
        (self.prefix, &self.name) == (other.prefix, &other.name)
    }
}

/// All attributes, and all sets of them, by their numbers.
#[derive(Debug)]
pub(super) struct Attributes {
    known: Numbered<Attribute>,
    sets: Numbered<[u32]>,
}

impl Attributes {
    pub(super) fn new() -> Self {
        let mut sets = Numbered::default();
        sets.number(Arc::from([]));
        Self { known: Numbered::default(), sets }
    }

    /// Returns an attribute by its number.
    pub(super) fn get(&self, number: u32) -> &Attribute {
        &self.known.by_number[number as usize]
    }

    /// Returns how many attributes there are.
    pub(super) fn len(&self) -> usize {
        self.known.by_number.len()
    }

    /// Returns the numbers of the attributes in a set.
    pub(super) fn set(&self, number: u32) -> &[u32] {
        &self.sets.by_number[number as usize]
    }

    /// Returns how long a set is if nothing of it is shared.
    pub(super) fn encoded_size(&self, set: u32) -> u64 {
        self.set(set).iter().map(|number| self.get(*number).encoded_size()).sum()
    }

    /// Returns the number of the set that has these attributes too.
    pub(super) fn with(&mut self, set: u32, added: Vec<Attribute>) -> u32 {
        if added.is_empty() {
            return set;
        }
        let mut numbers = self.set(set).to_vec();
        for attribute in added {
            numbers.retain(|number| !self.get(*number).has_name_of(&attribute));
            numbers.push(self.known.number(Arc::new(attribute)));
        }
        numbers.sort_unstable_by(|a, b| self.get(*a).cmp(self.get(*b)));
        self.sets.number(numbers.into())
    }
}

/// Things that are equal have one number.
#[derive(Debug)]
struct Numbered<T: ?Sized> {
    numbers: BTreeMap<Arc<T>, u32>,
    by_number: Vec<Arc<T>>,
}

impl<T: ?Sized> Default for Numbered<T> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), by_number: Vec::new() }
    }
}

impl<T: Ord + ?Sized> Numbered<T> {
    fn number(&mut self, thing: Arc<T>) -> u32 {
        let next = u32::try_from(self.by_number.len()).expect("fewer than memory has bytes");
        *self.numbers.entry(thing).or_insert_with_key(|thing| {
            self.by_number.push(Arc::clone(thing));
            next
        })
    }
}

/// What a file system makes of an entry's attributes.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) attributes: Vec<Attribute>,
    /// The permissions, which an access control list decides on too.
    pub(super) mode: u32,
    /// How many it has no place for.
    pub(super) refused: u64,
}

/// Returns what is kept of an entry's attributes; overlay's own marks never are.
pub(super) fn kept(entry: &Entry) -> Result<Kept, &'static str> {
    let mut kept = Kept { attributes: Vec::new(), mode: entry.mode & 0o7777, refused: 0 };
    for (name, value) in &entry.xattrs {
        if crate::layer::is_overlay_mark(name) {
            continue;
        }
        let prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        let Some((prefix, index)) = prefix.filter(|_| takes(&entry.kind, name)) else {
            kept.refused += 1;
            continue;
        };
        let value = match *prefix {
            ACCESS_ACL | DEFAULT_ACL => match access_list(value) {
                // A list of nothing takes away what was there: nothing.
                List::Empty => continue,
                List::Unknown => {
                    kept.refused += 1;
                    continue;
                }
                List::Of(entries) if *prefix == ACCESS_ACL => {
                    kept.mode = kept.mode & !0o777 | entries.mode();
                    // The permissions say all that such a list does.
                    if entries.0.len() == 3 {
                        continue;
                    }
                    entries.encode()
                }
                List::Of(entries) => entries.encode(),
            },
            _ => value.clone(),
        };
        if name.len() > LONGEST_NAME || name.contains(&0) || value.len() > LONGEST_VALUE {
            return Err("an extended attribute of it is too long");
        }
        let name = name[prefix.len()..].into();
        kept.attributes.push(Attribute { prefix: *index, name, value: value.into() });
    }
    Ok(kept)
}

/// Returns whether the kernel lets a file of this kind have the attribute (xattr(7)).
fn takes(kind: &Kind, name: &[u8]) -> bool {
    match name {
        ACCESS_ACL => !matches!(kind, Kind::Symlink(_)),
        DEFAULT_ACL => matches!(kind, Kind::Directory),
        _ if name.starts_with(b"system.") => false,
        _ if name.starts_with(b"user.") => matches!(kind, Kind::File { .. } | Kind::Directory),
        _ => true,
    }
}

/// An access control list (acl(5)) as `posix_acl_xattr.h` has it.
enum List {
    Empty,
    /// In a form that the kernel does not know either.
    Unknown,
    Of(Entries),
}

/// Tag, permissions and, for named users and groups, an id.
struct Entries(Vec<(u16, u16, u32)>);

const OWNER: u16 = 0x01;
const NAMED_USER: u16 = 0x02;
const GROUP: u16 = 0x04;
const NAMED_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

const ACL_VERSION: u32 = 2;

fn access_list(value: &[u8]) -> List {
    let Some((version, entries)) = value.split_first_chunk::<4>() else {
        return if value.is_empty() { List::Empty } else { List::Unknown };
    };
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != ACL_VERSION || !rest.is_empty() {
        return List::Unknown;
    }
    let entry = |entry: &[u8; 8]| {
        let [a, b, c, d, id @ ..] = *entry;
        let (tag, permissions) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let has_id = matches!(tag, NAMED_USER | NAMED_GROUP);
        (tag, permissions, if has_id { u32::from_le_bytes(id) } else { u32::MAX })
    };
    if entries.is_empty() {
        List::Empty
    } else {
        List::Of(Entries(entries.iter().map(entry).collect()))
    }
}

impl Entries {
    /// Returns the permissions that go with the list: the mask stands in the group's place.
    fn mode(&self) -> u32 {
        let of = |wanted| self.0.iter().find(|(tag, ..)| *tag == wanted).map(|entry| entry.1 & 0o7);
        let group = of(MASK).or(of(GROUP));
        [of(OWNER), group, of(OTHERS)]
            .into_iter()
            .fold(0, |mode, bits| mode << 3 | u32::from(bits.unwrap_or(0)))
    }

    fn encode(&self) -> Vec<u8> {
        let mut value = ACL_VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in &self.0 {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&permissions.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        value
    }
}
