//! Run folder: metrics, checkpoint and encoder files. Nothing else in the training loop touches files.

use crate::error::TrainError;
use crate::metrics::Record;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A folder with `metrics.jsonl`, `checkpoint.safetensors` and, in the end, `encoder.safetensors`.
#[derive(Debug)]
pub(crate) struct Run {
    folder: PathBuf,
    /// `None` where another process or thread writes the files.
    metrics: Option<File>,
}

impl Run {
    /// Opens the folder, which is created if need be.
    pub(crate) fn open(folder: &Path) -> Result<Self, TrainError> {
        std::fs::create_dir_all(folder).map_err(|e| TrainError::io(folder, "create the folder", e))?;
        let path = folder.join("metrics.jsonl");
        let metrics = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let metrics = metrics.map_err(|e| TrainError::io(&path, "open the metrics", e))?;
        Ok(Run { folder: folder.to_path_buf(), metrics: Some(metrics) })
    }

    /// The folder of a shard that is not the first: it reads the checkpoint and writes nothing.
    pub(crate) fn read_only(folder: &Path) -> Self {
        Run { folder: folder.to_path_buf(), metrics: None }
    }

    /// Whether its files are written here.
    pub(crate) fn writes(&self) -> bool {
        self.metrics.is_some()
    }

    /// Where the state of the training is kept.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }

    /// The checkpoint, if there is one.
    pub(crate) fn existing_checkpoint(&self) -> Option<PathBuf> {
        Some(self.checkpoint()).filter(|path| path.exists())
    }

    /// Where the finished encoder is put.
    pub(crate) fn encoder(&self) -> PathBuf {
        self.folder.join("encoder.safetensors")
    }

    /// Removes the metrics of all steps after `step`, which will be written again, and returns the others.
    pub(crate) fn rewind(&mut self, step: u64) -> Result<Vec<Record>, TrainError> {
        let mut bytes = Vec::new();
        let Some(metrics) = &mut self.metrics else {
            // The first shard may be shortening the file: what is read here is not written.
            let bytes = std::fs::read(self.folder.join("metrics.jsonl")).unwrap_or_default();
            return Ok(kept(&bytes, step).1);
        };
        let read = metrics.rewind().and_then(|()| metrics.read_to_end(&mut bytes));
        read.map_err(|e| TrainError::io(&self.folder.join("metrics.jsonl"), "read", e))?;
        let (kept, records) = kept(&bytes, step);
        let cut = metrics.set_len(kept).and_then(|()| metrics.seek(SeekFrom::Start(kept)));
        cut.map(|_| records).map_err(|e| self.fault("shorten", e))
    }

    /// Adds a line of metrics.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), TrainError> {
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        let mut line = serde_json::to_string(record).expect("numbers and names are JSON");
        line.push('\n');
        metrics.write_all(line.as_bytes()).map_err(|e| self.fault("write", e))
    }

    /// Flushes the metrics to the disk, before a checkpoint that relies on them.
    pub(crate) fn sync(&mut self) -> Result<(), TrainError> {
        let Some(metrics) = &self.metrics else { return Ok(()) };
        metrics.sync_data().map_err(|e| self.fault("sync", e))
    }

    fn fault(&self, action: &'static str, source: std::io::Error) -> TrainError {
        TrainError::io(&self.folder.join("metrics.jsonl"), action, source)
    }
}

/// Peak memory of this process in bytes; `None` where the system does not report it.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The whole lines at the beginning that are records of steps up to `step`, and their length in bytes.
fn kept(bytes: &[u8], step: u64) -> (u64, Vec<Record>) {
    let whole = |line: &[u8]| {
        let record: Record = line.ends_with(b"\n").then(|| serde_json::from_slice(line).ok()).flatten()?;
        (record.step() <= step).then_some((line.len() as u64, record))
    };
    bytes.split_inclusive(|&byte| byte == b'\n').map_while(whole).fold(
        (0, Vec::new()),
        |(length, mut records), (line, record)| {
            records.push(record);
            (length + line, records)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{EpochRecord, StepRecord};

    fn records() -> Vec<Record> {
        let step = |step| Record::Step(StepRecord { step, ..StepRecord::default() });
        let epoch = |step| Record::Epoch(EpochRecord { step, ..EpochRecord::default() });
        vec![step(1), step(2), epoch(2), step(3), step(4), epoch(4)]
    }

    fn steps(folder: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str::<Record>(line).unwrap().step()).collect()
    }

    #[test]
    fn a_rewound_file_continues_without_gap_or_repetition() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::open(folder.path()).unwrap();
        records().iter().for_each(|record| run.append(record).unwrap());
        drop(run);
        let mut run = Run::open(folder.path()).unwrap();
        run.rewind(2).unwrap();
        assert_eq!(steps(folder.path()), [1, 2, 2]);
        records()[3..].iter().for_each(|record| run.append(record).unwrap());
        run.sync().unwrap();
        assert_eq!(steps(folder.path()), [1, 2, 2, 3, 4, 4]);
        run.rewind(0).unwrap();
        assert_eq!(steps(folder.path()), [0u64; 0]);
    }

    #[test]
    fn a_truncated_line_is_dropped() {
        let line = |record: &Record| format!("{}\n", serde_json::to_string(record).unwrap());
        let whole: String = records().iter().map(line).collect();
        let first = line(&records()[0]).len();
        for cut in first + 1..first + 20 {
            assert_eq!(kept(&whole.as_bytes()[..cut], 9), (first as u64, records()[..1].to_vec()));
        }
        assert_eq!(kept(whole.as_bytes(), 9), (whole.len() as u64, records()));
    }

    #[test]
    fn a_folder_that_cannot_be_created_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let error = Run::open(&file.join("run")).unwrap_err().to_string();
        assert!(
            error.contains("file/run: cannot create the folder") && error.contains("choose a folder"),
            "{error}"
        );
        std::fs::create_dir(folder.path().join("metrics.jsonl")).unwrap();
        let error = Run::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: cannot open the metrics"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("metrics.jsonl")).unwrap();
        let mut run = Run::open(folder.path()).unwrap();
        let error = run.append(&records()[0]).unwrap_err().to_string();
        assert!(
            error.contains("metrics.jsonl: cannot write") && error.contains("free some space"),
            "{error}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn peak_memory_is_plausible() {
        // This test alone holds more than a megabyte and less than a terabyte.
        let peak = peak_memory().unwrap();
        assert!((1 << 20..1 << 40).contains(&peak), "{peak}");
    }
}
