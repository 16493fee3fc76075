//! What can be wrong with an archive, each with the member it is wrong in.

use std::io;
use std::path::PathBuf;

use cache::digest::Digest;

use crate::reference::ReferenceError;

/// Images that could not be read from an archive, or not be written to one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive cannot be read at all.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// The archive is no tar, or ends too early.
    #[error("the archive is damaged, or is no tar")]
    Tar(#[source] cache::layer::Error),
    /// A tar of something else.
    #[error(
        "the archive holds no images: it has neither manifest.json nor index.json (the tar of a \
         root file system is taken by: rbuild import)"
    )]
    NoImages,
    /// An archive of a docker before 1.10.
    #[error(
        "the archive was made by a docker older than 1.10, whose images have no digests: load it \
         with a newer docker, and save it anew"
    )]
    TooOld,
    /// More members than any archive of images has.
    #[error("the archive has more than {0} members: it is none of images")]
    TooManyMembers(usize),
    /// Something that the archive's own lists name is not there.
    #[error("the archive has no {member:?}, which it says to have: it is incomplete")]
    Missing {
        /// The member's name.
        member: String,
    },
    /// A member that leads to others without an end.
    #[error("the archive's {member:?} leads through too many links")]
    Links {
        /// The member's name.
        member: String,
    },
    /// A member that is no document of its kind.
    #[error("the archive's {member:?} is not what it should be: {why}")]
    Document {
        /// The member's name.
        member: String,
        /// What is wrong with it.
        why: String,
    },
    /// A member that does not have its digest.
    #[error(
        "the archive's {member:?} is corrupt: its content has digest {found}, not {expected}; get \
         the archive again"
    )]
    Corrupt {
        /// The member's name.
        member: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// A member that is no layer.
    #[error("the archive's {member:?} cannot be read as a layer")]
    Layer {
        /// The member's name.
        member: String,
        /// Why.
        #[source]
        source: cache::Error,
    },
    /// A list of layers that is not the configuration's.
    #[error(
        "the archive lists {layers} layers for the image of {member:?}, whose configuration has \
         {diff_ids}"
    )]
    LayersMismatch {
        /// The configuration's member.
        member: String,
        /// How many the archive lists.
        layers: usize,
        /// How many the configuration has.
        diff_ids: usize,
    },
    /// A name that no image can have.
    #[error("the archive has an image of the invalid name {name:?}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        source: ReferenceError,
    },
    /// No image for the platform.
    #[error("the archive has no image for {wanted}, but for {}", there.join(", "))]
    Platform {
        /// The platform that is wanted.
        wanted: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// No image of the name or the digest.
    #[error("{} has no image {pick:?}", dir.display())]
    NoSuchImage {
        /// The layout.
        dir: PathBuf,
        /// What was asked for.
        pick: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] cache::Error),
    /// The archive cannot be written.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
    /// What is to be written cannot be read.
    #[error("the image cannot be read")]
    Content(#[source] io::Error),
}

impl Error {
    pub(super) fn document(member: &str, why: &str) -> Self {
        Self::Document { member: member.to_owned(), why: why.to_owned() }
    }

    pub(super) fn missing(member: &str) -> Self {
        Self::Missing { member: member.to_owned() }
    }
}
