//! Generations in folders: a numbered one for each, and a file `serving.json` that names the one that serves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Generations, Place, Serving};

/// The file that names the serving generation.
const SERVING_FILE: &str = "serving.json";
/// The file that is there while the projection is paused.
const PAUSED_FILE: &str = "paused";
/// What the names of the folders of verifications have in them.
const VERIFICATION: &str = ".verify-";

/// The folder of one projection.
#[derive(Debug, Clone)]
pub struct FolderGenerations {
    folder: PathBuf,
}

impl FolderGenerations {
    /// Opens the folder of a projection, and makes it where it is missing. What verifications left when the process was
    /// killed is deleted.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path, projection: &str) -> io::Result<Self> {
        let folder = root.join(projection);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(root)?.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(&format!("{projection}{VERIFICATION}")) {
                remove(&entry.path())?;
            }
        }
        Ok(Self { folder })
    }
}

impl Generations for FolderGenerations {
    /// A file that cannot be understood counts as none.
    fn serving(&self) -> io::Result<Option<Serving>> {
        match fs::read(self.folder.join(SERVING_FILE)) {
            Ok(json) => Ok(serde_json::from_slice(&json).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn choose(&self, serving: Serving) -> io::Result<()> {
        let json = serde_json::to_vec(&serving).expect("numbers are plain JSON");
        replace(&self.folder.join(SERVING_FILE), &json)
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        Ok(numbers)
    }

    fn begin(&self) -> io::Result<u64> {
        let serving = self.serving()?.unwrap_or_default().generation;
        let number = self.numbers()?.into_iter().max().unwrap_or_default().max(serving) + 1;
        fs::create_dir_all(self.place(number).folder)?;
        Ok(number)
    }

    fn delete(&self, generation: u64) -> io::Result<()> {
        remove(&self.place(generation).folder)
    }

    fn place(&self, generation: u64) -> Place {
        Place { folder: self.folder.join(generation.to_string()), number: generation }
    }

    fn scratch(&self) -> io::Result<Place> {
        let mut name = self.folder.as_os_str().to_owned();
        name.push(format!("{VERIFICATION}{}", uuid::Uuid::now_v7()));
        let folder = PathBuf::from(name);
        fs::create_dir_all(&folder)?;
        Ok(Place { folder, number: 0 })
    }

    fn discard(&self, scratch: &Place) -> io::Result<()> {
        remove(&scratch.folder)
    }

    /// They are deleted when the folder is opened.
    fn scraps(&self) -> io::Result<Vec<Place>> {
        Ok(Vec::new())
    }

    fn is_paused(&self) -> io::Result<bool> {
        fs::exists(self.folder.join(PAUSED_FILE))
    }

    fn set_paused(&self, paused: bool) -> io::Result<()> {
        let file = self.folder.join(PAUSED_FILE);
        match paused {
            true => replace(&file, b""),
            false => match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => File::open(&self.folder)?.sync_all(),
            },
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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
    use crate::generations::{Generations, Serving};

    #[test]
    fn the_serving_generation_is_remembered_with_the_one_before_it() {
        let root = tempfile::tempdir().expect("a folder");
        let generations = FolderGenerations::open(root.path(), "memories").expect("opens");
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
        let generations = FolderGenerations::open(root.path(), "memories").expect("opens");
        let first = generations.begin().expect("begins");
        generations.serve(first).expect("writes");
        fs::write(root.path().join("memories/serving.new"), b"{\"gen").expect("writes");
        assert_eq!(generations.serving().expect("reads").map(|serving| serving.generation), Some(first));
    }

    #[test]
    fn a_generation_before_that_is_gone_is_no_build_to_go_on_with() {
        let root = tempfile::tempdir().expect("a folder");
        let generations = FolderGenerations::open(root.path(), "memories").expect("opens");
        let numbers: Vec<u64> = (0..3).map(|_| generations.begin().expect("begins")).collect();
        generations.serve(numbers[1]).expect("writes");
        generations.serve(numbers[0]).expect("goes back");
        assert_eq!(generations.unfinished().expect("reads"), Some(numbers[2]), "never the one before");
        generations.delete(numbers[1]).expect("deletes");
        generations.drop_previous(numbers[2]).expect("is not the one before");
        assert_eq!(generations.serving().expect("reads").and_then(|serving| serving.previous), Some(numbers[1]));
        generations.drop_previous(numbers[1]).expect("writes");
        let serving = generations.serving().expect("reads");
        assert_eq!(serving, Some(Serving { generation: numbers[0], previous: None, erased: 0 }));
        assert_eq!(generations.unfinished().expect("reads"), Some(numbers[2]));
    }

    #[test]
    fn a_pause_is_remembered() {
        let root = tempfile::tempdir().expect("a folder");
        let open = || FolderGenerations::open(root.path(), "memories").expect("opens");
        assert!(!open().is_paused().expect("reads"));
        for paused in [true, true, false, false] {
            open().set_paused(paused).expect("writes");
            assert_eq!(open().is_paused().expect("reads"), paused);
        }
    }

    #[test]
    fn tidying_keeps_what_serves_and_what_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let generations = FolderGenerations::open(root.path(), "memories").expect("opens");
        let numbers: Vec<u64> = (0..4).map(|_| generations.begin().expect("begins")).collect();
        generations.serve(numbers[1]).expect("writes");
        for surplus in generations.surplus(&[numbers[3]]).expect("lists") {
            generations.delete(surplus).expect("deletes");
        }
        assert_eq!(
            numbers.iter().map(|number| generations.place(*number).folder.exists()).collect::<Vec<_>>(),
            [false, true, false, true]
        );
        assert!(generations.begin().expect("begins") > numbers[3]);
    }
}
