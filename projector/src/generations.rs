//! Where the generations of a projection lie, and which one serves.
//!
//! A projection has a folder with a numbered folder for each generation, and a file `serving.json` that names the one
//! that serves and the one before it. The file is replaced as a whole, so a kill at any moment leaves either the old
//! choice or the new one. A number above the serving one is a build that was not finished.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file that names the serving generation.
const SERVING_FILE: &str = "serving.json";

/// The folder of one projection.
#[derive(Debug, Clone)]
pub struct Generations {
    folder: PathBuf,
}

/// Which generation serves, and which one served before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Serving {
    /// The serving one's number, from 1.
    pub generation: u64,
    /// The one before it, kept until the next build.
    pub previous: Option<u64>,
    /// The position of the last erasure that was met while a build was under way: a build that has not got there holds
    /// what was erased.
    #[serde(default)]
    pub erased: u64,
}

impl Generations {
    /// Opens the folder of a projection, and makes it where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path, projection: &str) -> io::Result<Self> {
        let folder = root.join(projection);
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// The folder of a generation.
    pub fn path(&self, generation: u64) -> PathBuf {
        self.folder.join(generation.to_string())
    }

    /// Which generation serves; `None` before the first. A file that cannot be understood counts as none.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn serving(&self) -> io::Result<Option<Serving>> {
        match fs::read(self.folder.join(SERVING_FILE)) {
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names the generation that serves from now on, durably.
    ///
    /// # Errors
    /// When it cannot be written; the earlier choice holds then.
    pub fn serve(&self, generation: u64) -> io::Result<()> {
        let previous = self.serving()?.map(|serving| serving.generation).filter(|earlier| *earlier != generation);
        self.name(Serving { generation, previous, erased: 0 })
    }

    /// Notes, durably, that something is erased at a position while a build is under way.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_erasure(&self, position: u64) -> io::Result<()> {
        match self.serving()? {
            Some(serving) => self.name(Serving { erased: position, ..serving }),
            None => Ok(()),
        }
    }

    fn name(&self, serving: Serving) -> io::Result<()> {
        let json = serde_json::to_vec(&serving).expect("numbers are plain JSON");
        replace(&self.folder.join(SERVING_FILE), &json)
    }

    /// The number of the build that was not finished, if there is one.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn unfinished(&self) -> io::Result<Option<u64>> {
        let serving = self.serving()?.unwrap_or_default().generation;
        Ok(self.numbers()?.into_iter().filter(|number| *number > serving).max())
    }

    /// Makes the folder of a new generation, with a number that was never used here.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self) -> io::Result<u64> {
        let serving = self.serving()?.unwrap_or_default().generation;
        let number = self.numbers()?.into_iter().max().unwrap_or_default().max(serving) + 1;
        fs::create_dir_all(self.path(number))?;
        Ok(number)
    }

    /// Deletes a generation.
    ///
    /// # Errors
    /// When it is there but cannot be deleted.
    pub fn delete(&self, generation: u64) -> io::Result<()> {
        match fs::remove_dir_all(self.path(generation)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes every generation but the serving one and `kept`.
    ///
    /// # Errors
    /// When one cannot be deleted.
    pub fn tidy(&self, kept: &[u64]) -> io::Result<()> {
        let serving = self.serving()?.unwrap_or_default().generation;
        let surplus = self.numbers()?.into_iter().filter(|number| *number != serving && !kept.contains(number));
        surplus.into_iter().try_for_each(|number| self.delete(number))
    }

    /// Deletes every generation older than the serving one but `kept`. A newer one belongs to a build that has begun
    /// meanwhile.
    ///
    /// # Errors
    /// When one cannot be deleted.
    pub fn forget_older(&self, kept: &[u64]) -> io::Result<()> {
        let serving = self.serving()?.unwrap_or_default().generation;
        let older = self.numbers()?.into_iter().filter(|number| *number < serving && !kept.contains(number));
        older.into_iter().try_for_each(|number| self.delete(number))
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        Ok(numbers)
    }
}

/// Replaces a file as a whole, durably: readers, and the next start after a kill, see the old one or the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().expect("the file lies in a folder");
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serving_generation_is_remembered_with_the_one_before_it() {
        let root = tempfile::tempdir().expect("a folder");
        let generations = Generations::open(root.path(), "memories").expect("opens");
        assert_eq!(generations.serving().expect("reads"), None);
        let first = generations.begin().expect("begins");
        assert_eq!(generations.unfinished().expect("reads"), Some(first));
        generations.serve(first).expect("writes");
        let second = generations.begin().expect("begins");
        generations.serve(second).expect("writes");
        let serving = generations.serving().expect("reads");
        assert_eq!(serving, Some(Serving { generation: second, previous: Some(first), erased: 0 }));
        assert_eq!(generations.unfinished().expect("reads"), None);
    }

    #[test]
    fn a_half_written_choice_does_not_count() {
        let root = tempfile::tempdir().expect("a folder");
        let generations = Generations::open(root.path(), "memories").expect("opens");
        let first = generations.begin().expect("begins");
        generations.serve(first).expect("writes");
        fs::write(root.path().join("memories/serving.new"), b"{\"gen").expect("writes");
        assert_eq!(generations.serving().expect("reads").map(|serving| serving.generation), Some(first));
    }

    #[test]
    fn tidying_keeps_what_serves_and_what_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let generations = Generations::open(root.path(), "memories").expect("opens");
        let numbers: Vec<u64> = (0..4).map(|_| generations.begin().expect("begins")).collect();
        generations.serve(numbers[1]).expect("writes");
        generations.tidy(&[numbers[3]]).expect("tidies");
        assert_eq!(
            numbers.iter().map(|number| generations.path(*number).exists()).collect::<Vec<_>>(),
            [false, true, false, true]
        );
        assert!(generations.begin().expect("begins") > numbers[3]);
    }
}
