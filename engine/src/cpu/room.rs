//! How many replicas the memory holds, and how many tokens each may take through the network at once.
//!
//! Where memory is short most systems end a process rather than refuse it an allocation, so none must be made that does
//! not fit. What is free is asked of Linux alone; elsewhere, replicas are bounded by their gradients only.

use std::fs;
use std::path::Path;

use hydra_core::model::Shape;

use super::space::Space;
use crate::{EngineError, Result};

/// Tokens that a replica takes through the network at once: enough for full speed, few enough for the cache.
const PIECE_TOKENS: usize = 1024;
/// The most numbers in all replicas' gradients together (4 GiB); beyond it, fewer replicas with more threads each.
const MAX_GRADIENTS: usize = 1 << 30;
/// Of the memory that is free so much may be taken, in percent; other programs want some, too.
const SHARE: u64 = 70;
/// Flat vectors that there are once: the weights, AdamW's two means and their copies; and a worker's version, where its
/// task starts, what came of it, and what its updates lacked.
const VECTORS: u64 = 9;

/// How the memory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub replicas: usize,
    /// Tokens that each takes through the network at once, or a whole window if that is longer.
    pub piece: usize,
}

impl Room {
    /// Windows of so many tokens that go through the network at once.
    pub fn windows(&self, context: usize) -> usize {
        (self.piece / context).max(1)
    }

    /// Bytes that training takes, for batches of so many windows.
    fn bytes(&self, shape: &Shape, batch: usize) -> u64 {
        let context = shape.context as usize;
        let share = batch.div_ceil(self.replicas);
        let windows = self.windows(context).min(share);
        // The last piece is a shorter one, with buffers of its own.
        let last = if share > windows { windows - 1 } else { 0 };
        let space = |windows: usize| if windows == 0 { 0 } else { Space::bytes(shape, (windows * context) as u64) };
        let flat = 4 * shape.params() as u64;
        let angles = 4 * u64::from(shape.context) * u64::from(shape.head_size());
        VECTORS * flat + angles + self.replicas as u64 * (flat + space(windows) + space(last))
    }
}

/// As many replicas as there are threads, each at full speed, unless `available` bytes of memory are too few: then
/// smaller pieces first, fewer replicas next.
///
/// # Errors
/// [`EngineError::OutOfMemory`] if one window on one replica is too much.
pub(super) fn divide(shape: &Shape, batch: usize, threads: usize, available: Option<u64>) -> Result<Room> {
    let batch = batch.max(1);
    let most = threads.min((MAX_GRADIENTS / shape.params()).max(1)).min(batch).max(1);
    let mut room = Room { replicas: most, piece: PIECE_TOKENS };
    let Some(available) = available else { return Ok(room) };
    let free = available / 100 * SHARE;
    while room.bytes(shape, batch) > free {
        if room.windows(shape.context as usize) > 1 {
            room.piece /= 2;
        } else if room.replicas > 1 {
            room.replicas -= 1;
        } else {
            let (needed, free, available) = (gib(room.bytes(shape, batch)), gib(free), gib(available));
            let text =
                format!("training this model takes {needed}, and of {available} that are free {free} may be used");
            return Err(EngineError::OutOfMemory(text));
        }
    }
    if room.replicas < most || room.piece < PIECE_TOKENS {
        let Room { replicas, piece } = room;
        tracing::warn!(replicas, threads, piece, free = gib(available), "little memory: training takes less at once");
    }
    Ok(room)
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Bytes of memory that this process can still have, where the system tells.
pub(super) fn available() -> Option<u64> {
    available_by(&|path| fs::read_to_string(path).ok())
}

/// The least of what the machine has and what the limits of the process's control groups leave.
fn available_by(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = figure(&read(Path::new("/proc/meminfo"))?, "MemAvailable:")?.saturating_mul(1024);
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let left = groups.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, group) = line.split_once(':')?;
        let kind = match controllers {
            "" => &SECOND,
            list if list.split(',').any(|name| name == "memory") => &FIRST,
            _ => return None,
        };
        // Each group's limit holds for those below it. In a container its own group is the root.
        Path::new(group.trim_start_matches('/')).ancestors().filter_map(|group| kind.left(group, read)).min()
    });
    Some(left.fold(machine, u64::min))
}

/// Where a version of control groups tells of memory.
struct Groups {
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: files in memory that give way before anything is ended.
    files: &'static str,
}

const FIRST: Groups = Groups {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    files: "total_inactive_file",
};
const SECOND: Groups =
    Groups { root: "/sys/fs/cgroup", limit: "memory.max", used: "memory.current", files: "inactive_file" };

impl Groups {
    /// Bytes that a group's limit leaves; nothing for one without a limit.
    fn left(&self, group: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
        let folder = Path::new(self.root).join(group);
        let number = |file| read(&folder.join(file))?.trim().parse::<u64>().ok();
        let (limit, used) = (number(self.limit)?, number(self.used)?);
        let files = read(&folder.join("memory.stat")).and_then(|stat| figure(&stat, self.files)).unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(files)))
    }
}

/// The number behind a name that begins a line.
fn figure(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| if words.next() == Some(name) { words.next()?.parse().ok() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// The presets `large` and `base`.
    fn large() -> Shape {
        Shape::new(24_576, 768, 12, 12, 1024)
    }

    fn base() -> Shape {
        Shape::new(12_288, 512, 8, 8, 512)
    }

    #[test]
    fn enough_memory_changes_nothing() {
        for available in [None, Some(64 * GIB), Some(u64::MAX)] {
            let full = |replicas| Room { replicas, piece: PIECE_TOKENS };
            assert_eq!(divide(&large(), 16, 12, available).unwrap(), full(10), "4 GiB of gradients");
            assert_eq!(divide(&base(), 16, 12, available).unwrap(), full(12));
            assert_eq!(divide(&base(), 4, 12, available).unwrap(), full(4), "a window each");
            assert_eq!(divide(&base(), 0, 1, available).unwrap(), full(1));
        }
        assert_eq!(Room { replicas: 1, piece: PIECE_TOKENS }.windows(300), 3);
        assert_eq!(Room { replicas: 1, piece: PIECE_TOKENS }.windows(5000), 1);
    }

    #[test]
    fn little_memory_takes_smaller_pieces_then_fewer_replicas() {
        let mut before = divide(&base(), 64, 12, Some(64 * GIB)).unwrap();
        let (mut pieces, mut replicas) = (0, 0);
        for tenths in (0..=200).rev() {
            let available = tenths * GIB / 10;
            let Ok(room) = divide(&base(), 64, 12, Some(available)) else { break };
            assert!(room.bytes(&base(), 64) <= available / 100 * SHARE);
            assert!(room.replicas == 12 || room.windows(512) == 1, "pieces first: {room:?}");
            assert!(room.piece <= before.piece && room.replicas <= before.replicas, "{room:?} after {before:?}");
            pieces += usize::from(room.piece < before.piece);
            replicas += usize::from(room.replicas < before.replicas);
            before = room;
        }
        assert!((pieces, before.replicas) == (1, 1) && replicas > 4, "{pieces} {replicas} {before:?}");
        // A laptop of 16 GB with some programs open.
        let room = divide(&large(), 16, 12, Some(11 * GIB)).unwrap();
        assert!((2..10).contains(&room.replicas), "{room:?}");
    }

    #[test]
    fn what_does_not_fit_at_all_is_refused_with_both_numbers() {
        let huge = Shape::new(65_536, 4096, 32, 3, 1024);
        huge.check().unwrap();
        let error = divide(&huge, 16, 12, Some(16 * GIB)).unwrap_err();
        assert!(error.is_out_of_memory());
        let text = error.to_string();
        assert!(text.contains("of 16.0 GiB that are free 11.2 GiB may be used"), "{text}");
        assert!(divide(&base(), 1, 1, Some(0)).unwrap_err().is_out_of_memory());
        // The largest that the wire lets through.
        let most = Shape { ffn: 8, ..Shape::new(65_536, 8192, 1, 1, 65_536) };
        most.check().unwrap();
        assert!(divide(&most, usize::MAX, 256, Some(GIB)).unwrap_err().is_out_of_memory());
    }

    fn found(files: &[(&str, &str)]) -> Option<u64> {
        let text =
            |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned());
        available_by(&text)
    }

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    5000 kB\n");

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(found(&[MACHINE]), Some(5_120_000));
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("/proc/meminfo", "MemAvailable: much kB")]), None);
    }

    #[test]
    fn limits_of_control_groups_count() {
        let group = ("/proc/self/cgroup", "0::/user.slice/worker.service\n");
        let own = "/sys/fs/cgroup/user.slice/worker.service";
        let (max, current, stat) =
            (format!("{own}/memory.max"), format!("{own}/memory.current"), format!("{own}/memory.stat"));
        let mut files = vec![MACHINE, group, (&max, "3000000\n"), (&current, "1000000\n")];
        assert_eq!(found(&files), Some(2_000_000));
        // Files that are kept in memory count as used, and can go.
        files.push((&stat, "anon 5\ninactive_file 400000\n"));
        assert_eq!(found(&files), Some(2_400_000));
        // A group above may leave less.
        files.push(("/sys/fs/cgroup/user.slice/memory.max", "100"));
        files.push(("/sys/fs/cgroup/user.slice/memory.current", "90"));
        assert_eq!(found(&files), Some(10));
        let unlimited = [MACHINE, ("/proc/self/cgroup", "0::/"), ("/sys/fs/cgroup/memory.max", "max")];
        assert_eq!(found(&unlimited), Some(5_120_000));
        let first = [
            MACHINE,
            ("/proc/self/cgroup", "5:cpu:/\n4:hugetlb,memory:/docker/7\n0::/"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500"),
        ];
        assert_eq!(found(&first), Some(1500), "a container's own group is its root");
    }
}
