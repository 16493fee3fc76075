//! What is asked for when a project is loaded. All that the process around would give is in here.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What to load and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The compose files; `-` is [`Request::stdin`]. None: what the environment names, or what stands in the folder.
    pub files: Vec<String>,
    /// What is read for `-`.
    pub stdin: Option<Vec<u8>>,
    /// The project's name, above all others.
    pub project_name: Option<String>,
    /// The folder that relative paths begin at, in place of the first file's.
    pub project_directory: Option<PathBuf>,
    /// Active profiles; none: those of the environment.
    pub profiles: Vec<String>,
    /// Variable files in place of `.env`.
    pub env_files: Vec<PathBuf>,
    /// The process's variables, which win over all others.
    pub environment: BTreeMap<String, String>,
    /// The process's folder.
    pub current_dir: PathBuf,
    /// Services to select, with what they depend on; none: all.
    pub services: Vec<String>,
    /// Whether networks, volumes and so on that no service uses stay.
    pub all_resources: bool,
    /// What to leave out.
    pub skip: Skip,
}

/// Phases that are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skip {
    /// Variables stay as they are written.
    pub interpolation: bool,
    /// Nothing is implied.
    pub normalization: bool,
    /// Relative paths stay relative.
    pub paths: bool,
    /// Nobody looks whether what services refer to is there.
    pub consistency: bool,
    /// `env_file` is not read.
    pub environment: bool,
    /// Unknown keys and values of the wrong kind pass.
    pub validation: bool,
}
