//! Containers: whether their records can be read, and whether what they need is there.
//!
//! What a container has written has no digest: there is nothing to compare it with. Changes nothing
//! but the layers that can be restored.

use super::{Checker, is_there};
use crate::error::{Error, Result};
use crate::prune::containers::{Container, read};

impl Checker<'_> {
    pub(super) fn containers(&mut self) -> Result<()> {
        for (id, dir) in self.store.listed("containers")? {
            self.report.objects += 1;
            let wrong = match read(&dir.join("config.json")) {
                Ok(Some(container)) => {
                    self.needs(&format!("container {}", container.name), &container)?;
                    continue;
                }
                Ok(None) => "config.json is not there, or empty".to_owned(),
                Err(Error::Damaged { why, .. }) => format!("config.json cannot be read: {why}"),
                Err(error) => return Err(error),
            };
            if is_there(&dir)? {
                let meaning = format!(
                    "it cannot be started; what it has written is in {}; rbuild rm -f {} removes it",
                    dir.join("upper").display(),
                    id.short()
                );
                self.fault(format!("container {}", id.short()), wrong, meaning, None);
            }
        }
        Ok(())
    }

    fn needs(&mut self, name: &str, container: &Container) -> Result<()> {
        for layer in &container.layers {
            if !self.is_lost(layer) {
                continue;
            }
            let wrong = format!("its layer {layer} is gone or damaged");
            match self.restore_from_blob(layer)? {
                true => self.restorable(name, wrong),
                false => {
                    let meaning = "it cannot be started until its image is made again; what it has \
                                   written is still there";
                    self.fault(name, wrong, meaning, None);
                }
            }
        }
        for blob in container.blobs() {
            if self.damaged_blobs.contains(&blob) || !is_there(&self.store.blob_path(&blob))? {
                let wrong = format!("its image's {blob} is gone or damaged");
                self.fault(name, wrong, "no image can be made of it (commit)", None);
            }
        }
        Ok(())
    }
}
