//! The accounts of a Unix host, as `passwd(5)` and `group(5)` describe them, and how they change.

use std::collections::BinaryHeap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes that a file of accounts may have: far more than any real one, so that a device file given by
/// mistake does not fill the memory.
const MAX_FILE: usize = 16 * 1024 * 1024;
const TOO_LARGE: &str = "larger than 16 MiB";

const BAD_GID: &str = "gid is not a number from 0 to 4294967295";

/// Bytes that the first read asks for. Most files of accounts are smaller.
const CHUNK: usize = 8 * 1024;

/// All accounts at one time, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    records: Vec<Record>,
}

/// A user, a group or a membership, and the line it comes from.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    kind: Kind,
    name: String,
    line: usize,
    /// The other fields. If they differ, the same record has changed.
    rest: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    User,
    Group,
    /// Named `user in group`.
    Membership,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Group => "group",
            Kind::Membership => "membership",
        }
    }
}

/// How a record differs between two syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Removed,
    Changed,
}

impl Change {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        }
    }
}

/// Why a file could not be used.
pub(crate) struct Unusable {
    file: PathBuf,
    text: String,
}

impl Unusable {
    /// Lines are numbered from 1. It is 0 if the reason is not about a line.
    fn new(file: &Path, line: usize, reason: &str) -> Unusable {
        let mut text = file.to_string_lossy().into_owned();
        if line > 0 {
            text.extend([":", &line.to_string()]);
        }
        text.extend([": ", reason]);
        Unusable { file: file.to_owned(), text }
    }

    /// The file that could not be used.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// The text already contains the system's error, so `source` does not repeat it.
impl std::error::Error for Unusable {}

impl Accounts {
    /// Reads and parses both files.
    pub(crate) fn read(passwd: &Path, group: &Path) -> Result<Accounts, Unusable> {
        let contents = |file: &Path| contents(file).map_err(|error| Unusable::new(file, 0, &error.to_string()));
        Accounts::parse((passwd, &contents(passwd)?), (group, &contents(group)?))
    }

    /// Parses both files, each given as its name and its bytes.
    pub(crate) fn parse(passwd: (&Path, &[u8]), group: (&Path, &[u8])) -> Result<Accounts, Unusable> {
        let (passwd, group) = (Table { file: passwd.0, bytes: passwd.1 }, Table { file: group.0, bytes: group.1 });
        let mut users = Vec::new();
        // Users by the number of their primary group: they are members of it without being listed there.
        let mut own = Vec::new();
        passwd.each(7, &mut |line, fields| {
            let [name, _, rest @ ..] = fields else { return Ok(()) };
            let [uid, gid, ..] = rest else { return Ok(()) };
            number(uid).ok_or("uid is not a number from 0 to 4294967295")?;
            let id = number(gid).ok_or(BAD_GID)?;
            own.push(Record::new(Kind::Group, id, line, (*name).to_owned()));
            users.push(Record::new(Kind::User, (*name).to_owned(), line, rest.join(":")));
            Ok(())
        })?;
        // Every host has users and groups. A file without any is incomplete or the wrong one, and must not remove them all.
        if users.is_empty() {
            return Err(passwd.unusable(0, "no users in it"));
        }
        let (users, own) = (passwd.unique(users)?, sorted(own));

        let mut others = Vec::new();
        group.each(4, &mut |line, fields| {
            let [name, _, gid, listed] = fields else { return Ok(()) };
            let id = number(gid).ok_or(BAD_GID)?;
            others.push(Record::new(Kind::Group, (*name).to_owned(), line, (*gid).to_owned()));
            let members = all(&own, Kind::Group, &id).iter().map(|record| &*record.rest);
            for user in members.chain(listed.split(',')) {
                // A group may list users from another source, such as LDAP. The connector does not sync those.
                if find(&users, Kind::User, user).is_some() {
                    others.push(Record::new(Kind::Membership, [user, " in ", name].concat(), 0, String::new()));
                }
            }
            Ok(())
        })?;
        if others.is_empty() {
            return Err(group.unusable(0, "no groups in it"));
        }
        let mut records = users;
        records.append(&mut group.unique(others)?);
        Ok(Accounts { records })
    }

    /// The number of records of a kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.records.iter().filter(|record| record.kind == kind).count()
    }

    /// Calls `each` for every record that differs in `now`: first the removed records, then the others.
    pub(crate) fn changes(&self, now: &Accounts, mut each: impl FnMut(Change, Kind, &str)) {
        for record in self.records.iter().filter(|record| find(&now.records, record.kind, &record.name).is_none()) {
            each(Change::Removed, record.kind, &record.name);
        }
        for record in &now.records {
            match find(&self.records, record.kind, &record.name) {
                None => each(Change::Added, record.kind, &record.name),
                Some(before) if before.rest != record.rest => each(Change::Changed, record.kind, &record.name),
                Some(_) => {}
            }
        }
    }
}

impl Record {
    fn new(kind: Kind, name: String, line: usize, rest: String) -> Record {
        Record { kind, name, line, rest }
    }
}

/// Sorts with a heap, which is as fast as std's sorts for files of this kind and has a tenth of the code.
fn sorted(records: Vec<Record>) -> Vec<Record> {
    BinaryHeap::from(records).into_sorted_vec()
}

/// The records of that kind and name.
fn all<'a>(sorted: &'a [Record], kind: Kind, name: &str) -> &'a [Record] {
    let first = sorted.partition_point(|record| (record.kind, &*record.name) < (kind, name));
    let rest = sorted.get(first..).unwrap_or_default();
    let count = rest.partition_point(|record| record.kind == kind && record.name == name);
    rest.get(..count).unwrap_or_default()
}

fn find<'a>(sorted: &'a [Record], kind: Kind, name: &str) -> Option<&'a Record> {
    all(sorted, kind, name).first()
}

/// A number of 32 bits without its leading zeros. It must have only digits, since `parse` accepts a sign.
fn number(text: &str) -> Option<String> {
    let number: u32 = if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok()? } else { return None };
    Some(u64::from(number).to_string())
}

fn contents(file: &Path) -> io::Result<Vec<u8>> {
    let mut source = File::open(file)?;
    let mut bytes = Vec::new();
    loop {
        let filled = bytes.len();
        if filled > MAX_FILE {
            return Err(io::Error::other(TOO_LARGE));
        }
        bytes.resize(filled + CHUNK.max(filled), 0);
        let count = match source.read(bytes.get_mut(filled..).unwrap_or_default()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            Ok(count) => count,
        };
        bytes.truncate(filled + count);
    }
}

/// What is done with a line, given its number and its fields.
type EachLine<'a> = &'a mut dyn FnMut(usize, &[&str]) -> Result<(), &'static str>;

/// A file of lines of fields.
struct Table<'a> {
    file: &'a Path,
    bytes: &'a [u8],
}

impl Table<'_> {
    /// Calls `each` for every line, numbered from 1, with its fields. Empty lines and comments are
    /// skipped, as the C libraries do, and so are lines of NIS (`+..`, `-..`), which name no account here.
    fn each(&self, expected: usize, each: EachLine<'_>) -> Result<(), Unusable> {
        let mut fields = Vec::new();
        for (line, bytes) in (1..).zip(self.bytes.split(|&byte| byte == b'\n')) {
            let text = std::str::from_utf8(bytes).map_err(|_| self.unusable(line, "not UTF-8"))?;
            if bytes.trim_ascii().is_empty() || matches!(bytes, [b'#' | b'+' | b'-', ..]) {
                continue;
            }
            fields.clear();
            fields.extend(text.split(':'));
            if fields.len() != expected {
                return Err(self.unusable(line, &format!("{expected} fields expected, {} found", fields.len())));
            }
            each(line, &fields).map_err(|reason| self.unusable(line, reason))?;
        }
        Ok(())
    }

    /// Sorts the records and keeps one of several that are equal. Refuses an empty name and a name that is in two lines.
    fn unique(&self, records: Vec<Record>) -> Result<Vec<Record>, Unusable> {
        let mut records = sorted(records);
        records.dedup();
        let mut before: Option<&Record> = None;
        for record in &records {
            let reason = match before.replace(record) {
                _ if record.name.is_empty() => "name is empty".to_owned(),
                Some(before) if (before.kind, &before.name) == (record.kind, &record.name) => {
                    format!("name already given in line {}", before.line)
                }
                _ => continue,
            };
            return Err(self.unusable(record.line, &reason));
        }
        Ok(records)
    }

    fn unusable(&self, line: usize, reason: &str) -> Unusable {
        Unusable::new(self.file, line, reason)
    }
}

/// Panics if `passwd` and `group`, with a NUL between them, break a promise. For `fuzz/`, whose seeds the
/// tests replay.
#[cfg(any(test, fuzzing))]
#[allow(clippy::panic, reason = "it is a test")]
pub(crate) fn check(bytes: &[u8]) {
    let (passwd, group) = bytes.split_at(bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()));
    let parse = |passwd: &[u8]| Accounts::parse((Path::new("p"), passwd), (Path::new("g"), group.get(1..).unwrap_or_default()));
    let accounts = match parse(passwd) {
        Ok(accounts) => accounts,
        Err(error) => return assert!(!error.to_string().contains(char::is_control), "{error}"),
    };
    accounts.changes(&accounts, |change, kind, name| panic!("{} {} {name:?} by itself", kind.word(), change.word()));
    let mut count = [Kind::User, Kind::Group, Kind::Membership].map(|kind| accounts.count(kind)).iter().sum::<usize>();
    Accounts::default().changes(&accounts, |change, _, _| count -= usize::from(change == Change::Added));
    assert_eq!(count, 0, "records that `changes` did not report as added");
    // The order of the lines makes no difference.
    let mut lines: Vec<&[u8]> = passwd.split(|&byte| byte == b'\n').collect();
    lines.reverse();
    let Ok(reversed) = parse(&lines.join(&b'\n')) else { panic!("refused in another order") };
    accounts.changes(&reversed, |change, kind, name| panic!("{} {} {name:?} by order", kind.word(), change.word()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_as_large_as_the_limit() {
        let path = std::env::temp_dir().join(format!("baton-health-large-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        for (size, fits) in [(MAX_FILE, true), (MAX_FILE + 1, false), (MAX_FILE + CHUNK + 1, false)] {
            file.set_len(size as u64).unwrap();
            assert_eq!(contents(&path).is_ok_and(|bytes| bytes.len() == size), fits, "{size}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_seeds_of_the_fuzz_target_do_not_break_a_promise() {
        let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        if !fuzz.exists() {
            eprintln!("the published package has no seeds");
            return;
        }
        let seeds: Vec<_> = std::fs::read_dir(fuzz.join("seeds/accounts")).unwrap().collect();
        for seed in &seeds {
            let path = seed.as_ref().unwrap().path();
            // Names which seed it was, if the check panics.
            eprintln!("{}", path.display());
            check(&std::fs::read(path).unwrap());
        }
        assert!(!seeds.is_empty(), "no seeds");
    }

    #[test]
    fn a_users_primary_group_is_found_by_its_whole_number() {
        let accounts = parse("a:x:1:10:::\nb:x:2:1:::\n", "one:x:1:\nten:x:010:b\n").unwrap();
        let memberships: Vec<_> = changes(&Accounts::default(), &accounts).split_off(4);
        assert_eq!(memberships, ["membership added a in ten", "membership added b in one", "membership added b in ten"]);
    }

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\n# a comment\nann:x:1000:100:Ann:/home/ann:/bin/sh\n+::::::\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann,from-ldap\n";

    fn parse(passwd: &str, group: &str) -> Result<Accounts, Unusable> {
        Accounts::parse((Path::new("passwd"), passwd.as_bytes()), (Path::new("group"), group.as_bytes()))
    }

    fn changes(before: &Accounts, after: &Accounts) -> Vec<String> {
        let mut changes = Vec::new();
        before.changes(after, |change, kind, name| changes.push([kind.word(), change.word(), name].join(" ")));
        changes
    }

    #[test]
    fn users_groups_and_memberships_are_read() {
        let accounts = parse(PASSWD, GROUP).unwrap();
        let all = changes(&Accounts::default(), &accounts);
        assert_eq!(
            all,
            [
                "user added ann",
                "user added root",
                "group added root",
                "group added users",
                "group added wheel",
                "membership added ann in users",
                "membership added ann in wheel",
                "membership added root in root",
                "membership added root in wheel",
            ]
        );
        assert_eq!((accounts.count(Kind::User), accounts.count(Kind::Group), accounts.count(Kind::Membership)), (2, 3, 4));
    }

    #[test]
    fn changes_are_reported_with_their_kind_and_name() {
        let before = parse(PASSWD, GROUP).unwrap();
        let after = parse(
            "root:x:0:0:root:/root:/bin/bash\nbob:x:1001:100::/home/bob:/bin/sh\n",
            "root:x:0:\nusers:x:101:\nwheel:x:10:root,bob\n",
        )
        .unwrap();
        assert_eq!(
            changes(&before, &after),
            [
                "user removed ann",
                "membership removed ann in users",
                "membership removed ann in wheel",
                "user added bob",
                "user changed root",
                "group changed users",
                "membership added bob in wheel",
            ]
        );
        assert_eq!(changes(&after, &after), [""; 0]);
    }

    #[test]
    fn an_unusable_file_is_reported_with_its_line_and_reason() {
        for (passwd, group, expected) in [
            ("a:x:1:1::/\n", "", "passwd:1: 7 fields expected, 6 found"),
            ("a:x:1:1::/:/bin/sh\nrubbish\n", "", "passwd:2: 7 fields expected, 1 found"),
            (":x:1:1::/:/bin/sh\n", "", "passwd:1: name is empty"),
            ("", "", "passwd: no users in it"),
            ("# only a comment\n\n", "", "passwd: no users in it"),
            ("a:x:one:1::/:/bin/sh\n", "", "passwd:1: uid is not a number from 0 to 4294967295"),
            ("a:x:1:+1::/:/bin/sh\n", "", "passwd:1: gid is not a number from 0 to 4294967295"),
            ("a:x::1::/:/bin/sh\n", "", "passwd:1: uid is not a number from 0 to 4294967295"),
            ("a:x:4294967296:1::/:/bin/sh\n", "", "passwd:1: uid is not a number from 0 to 4294967295"),
            ("a:x:1:1:::\nb:x:2:1:::\n\na:x:3:1:::\n", "", "passwd:4: name already given in line 1"),
            ("a:x:1:1:::\n", "\n# only a comment\n", "group: no groups in it"),
            ("a:x:1:1:::\n", "g:x:1\n", "group:1: 4 fields expected, 3 found"),
            ("a:x:1:1:::\n", "g:x:-1:\n", "group:1: gid is not a number from 0 to 4294967295"),
            ("a:x:1:1:::\n", "g:x:1:\n\ng:x:2:\n", "group:3: name already given in line 1"),
        ] {
            assert_eq!(parse(passwd, group).unwrap_err().to_string(), expected);
        }
        let error = Accounts::parse((Path::new("passwd"), b"ok:x:1:1:::\n\xff\n"), (Path::new("group"), b"")).unwrap_err();
        assert_eq!(error.to_string(), "passwd:2: not UTF-8");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_reported_with_the_systems_reason() {
        let error = Accounts::read("/nonexistent/passwd".as_ref(), "/dev/null".as_ref()).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/passwd: "), "{error}");
        #[cfg(unix)]
        assert_eq!(
            Accounts::read("/dev/zero".as_ref(), "/dev/null".as_ref()).unwrap_err().to_string(),
            "/dev/zero: larger than 16 MiB"
        );
    }
}
