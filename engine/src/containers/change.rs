//! Changes of what a container is asked to be: the only writer of a record that is there.
//!
//! ```text
//! lock      the container's directory itself: one change at a time; no monitor ever takes this lock
//! write     the record, whole
//! tell      its monitor, if it has one, which follows or refuses
//! take back what was refused, while nobody else could change or read it as settled
//! ```
//!
//! The lock of all names (`directory`) is taken inside of a container's own and never held while a
//! monitor is asked: a monitor that ends takes it to remove its container.
//!
//! Does not know what is changed.

use std::fs::File;
use std::io;

use fs_err as fs;

use super::client::Client;
use super::protocol::Request;
use super::{Containers, Error, Record, Result, names};

impl Containers<'_> {
    /// Changes what a container is asked to be and has its monitor follow. What `alter` or the
    /// monitor refuses is not written, or taken back; the record as it is then is returned.
    pub fn change<E: From<Error>>(
        &self,
        id: &str,
        alter: impl FnOnce(&mut Record) -> std::result::Result<(), E>,
    ) -> std::result::Result<Record, E> {
        let _alone = self.lock_record(id)?;
        let before = self.record(id)?;
        let mut record = before.clone();
        alter(&mut record)?;
        self.write_record(&record)?;
        if let Err(error) = self.have_followed(id) {
            self.write_record(&before)?;
            return Err(error.into());
        }
        Ok(record)
    }

    /// Gives a container another name. Those who look it up by name are told by its monitor.
    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if !names::is_valid(name) {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let _alone = self.lock_record(id)?;
        let before = self.record(id)?;
        if before.name == name {
            return Err(Error::Refused(
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        let record = Record { name: name.to_owned(), ..before.clone() };
        self.write_renamed(&before, &record)?;
        if let Err(error) = self.have_followed(id) {
            self.write_renamed(&record, &before)?;
            return Err(error);
        }
        self.tell(&record, "rename", &[("oldName", &format!("/{}", before.name))]);
        Ok(())
    }

    /// Has the container's monitor read the record again; without one there is nothing to do.
    fn have_followed(&self, id: &str) -> Result<()> {
        match Client::connect(self, id, Request::Reload)? {
            Some(mut client) => client.done(),
            None => Ok(()),
        }
    }

    /// Waits to be the only one who changes a container's record.
    fn lock_record(&self, id: &str) -> Result<File> {
        let not_found = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound(id.to_owned()),
            _ => error.into(),
        };
        let directory = fs::File::open(self.dir(id)).map_err(not_found)?.into_parts().0;
        directory.lock()?;
        Ok(directory)
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        match super::directory::write_config(&self.dir(&record.id), record) {
            // It was removed meanwhile.
            Err(_) if !self.dir(&record.id).exists() => Err(Error::NotFound(record.id.clone())),
            written => Ok(written?),
        }
    }
}
