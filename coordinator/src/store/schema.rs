//! Opening the database: whose it is, which layout it has, and the settings that make a commit durable.
//!
//! A file that is not ours, or that a newer program wrote, is recognised before anything is written. The layout's
//! number is SQLite's `user_version`; every step from one layout to the next is a file in `schema/`.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::error::{FileError, StoreError, Trouble};

/// The database's name in the run's folder.
pub const FILE: &str = "hydra.db";
/// The newest layout; one a step.
pub const LAYOUT: u32 = STEPS.len() as u32;

const STEPS: &[M<'static>] = &[
    M::up(include_str!("schema/0001.sql")),
    M::up(include_str!("schema/0002.sql")),
    M::up(include_str!("schema/0003.sql")),
];
/// "HYDR", as in `0001.sql`.
const APPLICATION: u32 = 0x4859_4452;
/// A reader's transaction never blocks the writer in WAL mode; this covers backups and checkpoints by other tools.
const BUSY: Duration = Duration::from_secs(5);

/// Opens the database for the one writer, making or bringing it up to date first.
pub fn open_writable(path: &Path) -> Result<Connection, StoreError> {
    if let Some(found) = peek(path)? {
        refuse_foreign(path, found)?;
        // The header may lag behind the write-ahead log: ask SQLite too, still without writing.
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        refuse_foreign(path, inspect(&connection)?)?;
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let settings = "PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        PRAGMA fullfsync = ON;
        PRAGMA checkpoint_fullfsync = ON;
        PRAGMA foreign_keys = ON;
        PRAGMA recursive_triggers = ON;
        PRAGMA trusted_schema = OFF;
        PRAGMA cell_size_check = ON;";
    connection.execute_batch(settings).map_err(StoreError::sql("set up the ledger"))?;
    Migrations::from_slice(STEPS).to_latest(&mut connection).map_err(migration_failed)?;
    Ok(connection)
}

/// Opens the database of a run's folder (or the file itself) for reading only; a running coordinator is no obstacle.
pub fn open_readable(run_or_file: &Path) -> Result<Connection, StoreError> {
    let path = database_path(run_or_file);
    let Some(found) = peek(&path)? else { return Err(StoreError::NoRun { path }) };
    refuse_foreign(&path, found)?;
    let (connection, found) = match read_only(&path) {
        // SQLite keeps a file beside the database even to read it, and it may not make one here.
        Err(error) if is_barred(error.trouble()) && !has_log(&path) => immutable(&path).map_err(|_| error)?,
        read => read?,
    };
    refuse_foreign(&path, found)?;
    match found.layout {
        LAYOUT => Ok(connection),
        0 => Err(StoreError::NoRun { path }),
        // Bringing the file up to date is the writer's work.
        _ => upgraded_copy(&connection),
    }
}

fn read_only(path: &Path) -> Result<(Connection, Found), StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found = inspect(&connection)?;
    Ok((connection, found))
}

/// Whether the folder may be what is in the way: SQLite cannot open what it would have to make.
fn is_barred(trouble: Trouble) -> bool {
    matches!(trouble, Trouble::ReadOnly | Trouble::Denied | Trouble::Io)
}

/// Whether rows may lie beside the database that are not in it yet. A coordinator that runs always keeps both files; a
/// command that reads may leave an empty log behind.
fn has_log(path: &Path) -> bool {
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        std::fs::metadata(name)
    };
    // What cannot be looked at may be there.
    let absent = |looked: &io::Result<Metadata>| looked.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    let (log, index) = (beside("-wal"), beside("-shm"));
    let empty = log.as_ref().is_ok_and(|log| log.len() == 0) && absent(&index);
    !empty && !absent(&log)
}

/// Reads a database that nobody changes meanwhile, without any file beside it.
fn immutable(path: &Path) -> Result<(Connection, Found), StoreError> {
    let connection = connect_immutable(path)?;
    let found = inspect(&connection)?;
    Ok((connection, found))
}

fn connect_immutable(path: &Path) -> Result<Connection, StoreError> {
    let uri = uri(path).map_err(|error| FileError::io("open", path, &error))?;
    connect(Path::new(&uri), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

/// `file:` and the path, with what means something in an address written as its code.
fn uri(path: &Path) -> io::Result<String> {
    let path = std::path::absolute(path)?;
    let hex = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or_default();
    let mut uri = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'\\' if cfg!(windows) => uri.push('/'),
            b'/' | b':' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    if !uri["file://".len()..].starts_with('/') {
        // A drive's letter.
        uri.insert("file://".len(), '/');
    }
    Ok(uri + "?immutable=1")
}

/// A copy in memory with the newest layout, of a database that no newer program has started on yet.
fn upgraded_copy(from: &Connection) -> Result<Connection, StoreError> {
    let copy = || {
        let mut copy = Connection::open_in_memory()?;
        Backup::new(from, &mut copy)?.run_to_completion(i32::MAX, Duration::ZERO, None)?;
        Ok(copy)
    };
    let mut copy = copy().map_err(StoreError::sql("read the ledger"))?;
    Migrations::from_slice(STEPS).to_latest(&mut copy).map_err(migration_failed)?;
    Ok(copy)
}

/// The database's path, from the run's folder or from itself.
pub fn database_path(run_or_file: &Path) -> PathBuf {
    if run_or_file.is_file() { run_or_file.to_owned() } else { run_or_file.join(FILE) }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(StoreError::sql("open the ledger"))?;
    connection.busy_timeout(BUSY).map_err(StoreError::sql("open the ledger"))?;
    Ok(connection)
}

/// What tells whose a database is.
#[derive(Debug, Clone, Copy)]
struct Found {
    application: u32,
    layout: u32,
    /// Whether it is known to hold tables.
    filled: bool,
}

fn refuse_foreign(path: &Path, found: Found) -> Result<(), StoreError> {
    let path = path.to_owned();
    match found.application {
        APPLICATION if found.layout > LAYOUT => {
            Err(StoreError::NewerThanProgram { path, found: found.layout, known: LAYOUT })
        }
        APPLICATION => Ok(()),
        // A start that was cut short before the first commit.
        0 if !found.filled => Ok(()),
        _ => Err(StoreError::NotOurs { path, why: "it is the database of another program" }),
    }
}

/// What the file itself says, whatever its log holds; nothing for an absent or empty one. No file beside it is touched.
///
/// Never through a descriptor of our own: when one is closed, POSIX takes all locks of this process off the file, those of
/// its open database, too. The next program that reads it would take itself for the only one, and remove the log that this
/// one goes on writing to.
fn peek(path: &Path) -> Result<Option<Found>, StoreError> {
    match std::fs::metadata(path) {
        Ok(about) if about.len() == 0 => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("open", path, &error).into()),
    }
    let connection = connect_immutable(path)?;
    match header(&connection) {
        Ok((application, layout)) => Ok(Some(Found { application, layout, filled: false })),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Err(StoreError::NotOurs { path: path.to_owned(), why: "it is no database" })
        }
        Err(error) => Err(StoreError::sql("open the ledger")(error)),
    }
}

fn header(connection: &Connection) -> rusqlite::Result<(u32, u32)> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    Ok((number("application_id")? as u32, number("user_version")? as u32))
}

fn inspect(connection: &Connection) -> Result<Found, StoreError> {
    let found = || {
        let filled = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? > 0;
        let (application, layout) = header(connection)?;
        Ok(Found { application, layout, filled })
    };
    found().map_err(StoreError::sql("open the ledger"))
}

fn migration_failed(error: rusqlite_migration::Error) -> StoreError {
    match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => StoreError::sql("set up the ledger's layout")(err),
        other => StoreError::Unfit(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_read_without_a_file_beside_it_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("50% of a? run #1 é");
        std::fs::create_dir(&run).unwrap();
        let path = run.join(FILE);
        open_writable(&path).unwrap().close().unwrap();
        let (connection, found) = immutable(&path).unwrap();
        assert_eq!((found.application, found.layout, found.filled), (APPLICATION, LAYOUT, true));
        assert_eq!(std::fs::read_dir(&run).unwrap().count(), 1, "nothing was made");
        drop(connection);

        assert!(!has_log(&path));
        let writer = open_writable(&path).unwrap();
        assert!(has_log(&path), "it is not immutable while it is written");
        drop(writer);
        std::fs::write(run.join("hydra.db-wal"), "").unwrap();
        assert!(!has_log(&path), "nothing is in it, and nobody has it open");
        std::fs::write(run.join("hydra.db-shm"), "").unwrap();
        assert!(has_log(&path), "somebody may have it open");
        assert!(immutable(&run.join("none.db")).is_err());
    }

    /// Nothing is in root's way, and then this shows only that nothing else is broken.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_takes_no_writes_is_read_unless_rows_lie_beside_the_database() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        open_writable(&path).unwrap().close().unwrap();
        let permit = |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        permit(0o555);
        let barred = std::fs::File::create(dir.path().join("new")).is_err();
        assert!(open_readable(dir.path()).is_ok());
        permit(0o755);
        if barred {
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
            std::fs::write(dir.path().join("hydra.db-wal"), "rows").unwrap();
            permit(0o555);
            let refused = open_readable(dir.path());
            permit(0o755);
            let trouble = refused.map(drop).unwrap_err().trouble();
            assert!(is_barred(trouble), "{trouble:?}");
        }
    }
}
