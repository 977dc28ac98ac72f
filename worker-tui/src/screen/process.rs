//! What this process uses of the machine: CPU time so far and memory, where the system tells (Linux).

use std::time::Duration;

/// CPU time of all threads, and resident bytes.
#[cfg(target_os = "linux")]
pub fn usage() -> (Option<Duration>, Option<u64>) {
    let read = |name| std::fs::read_to_string(name).ok();
    (read("/proc/self/stat").as_deref().and_then(cpu), read("/proc/self/status").as_deref().and_then(memory))
}

/// Nothing is known elsewhere.
#[cfg(not(target_os = "linux"))]
pub fn usage() -> (Option<Duration>, Option<u64>) {
    (None, None)
}

/// `utime` and `stime` of proc_pid_stat(5), the 14th and 15th field, in hundredths of a second: USER_HZ, the same on
/// every machine that this program is built for.
#[cfg(target_os = "linux")]
fn cpu(stat: &str) -> Option<Duration> {
    // The second field is a name that may hold anything; the last bracket ends it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()?.checked_add(fields.next()?.ok()?)?;
    Some(Duration::from_millis(ticks.checked_mul(10)?))
}

/// `VmRSS` of proc_pid_status(5), given in kB of 1024 bytes.
#[cfg(target_os = "linux")]
fn memory(status: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_read() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 4 0 1 2";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1750)));
        assert_eq!(cpu("12 (x"), None);
        assert_eq!(memory("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        let (spent, bytes) = usage();
        assert!(spent.is_some() && bytes.is_some_and(|bytes| bytes > 100_000));
    }
}
