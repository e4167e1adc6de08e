//! The accounts of a Unix host, as `passwd(5)` and `group(5)` describe them, and how they change.

use std::cmp::Ordering;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};

/// Bytes that a file of accounts may have: far beyond any real one, and short of what a device
/// file given by mistake would fill memory with.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// All accounts at one time, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    records: Vec<Record>,
}

/// One thing that exists: what it is, what identifies it, and what may change about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    kind: Kind,
    name: String,
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

/// How something differs from one time to the next.
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

/// Which file could not be used, where in it, and why.
#[derive(Debug)]
pub(crate) struct Unusable {
    file: String,
    /// From 1; 0 where it is not about a line.
    line: usize,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Io(io::Error),
    TooLarge,
    NotUtf8,
    Fields { expected: usize, found: usize },
    Empty(&'static str),
    NotANumber(&'static str),
    Repeated { first: usize },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        match &self.reason {
            Reason::Io(error) => error.fmt(f),
            Reason::TooLarge => write!(f, "larger than {} MiB", MAX_FILE >> 20),
            Reason::NotUtf8 => f.write_str("not UTF-8"),
            Reason::Fields { expected, found } => write!(f, "{found} fields where {expected} are expected"),
            Reason::Empty(what) => write!(f, "{what} is empty"),
            Reason::NotANumber(what) => write!(f, "{what} is not a number from 0 to 4294967295"),
            Reason::Repeated { first } => write!(f, "name already given in line {first}"),
        }
    }
}

impl std::error::Error for Unusable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl Accounts {
    /// Reads both files, now.
    pub(crate) fn read(passwd: &str, group: &str) -> Result<Accounts, Unusable> {
        Accounts::parse((passwd, &contents(passwd)?), (group, &contents(group)?))
    }

    /// Makes sense of both files, each with its name.
    fn parse(passwd: (&str, &[u8]), group: (&str, &[u8])) -> Result<Accounts, Unusable> {
        let (passwd, group) = (Table { file: passwd.0, bytes: passwd.1 }, Table { file: group.0, bytes: group.1 });
        let mut records = Vec::new();
        // A user belongs to the group with the user's own gid, and to those that list the user.
        let mut primary = Vec::new();
        for (line, [name, _, uid, gid, gecos, home, shell]) in passwd.lines()? {
            let name = passwd.named(line, name)?;
            passwd.number(line, "uid", uid)?;
            primary.push((passwd.number(line, "gid", gid)?, name));
            records.push((line, Record::new(Kind::User, name, [uid, gid, gecos, home, shell].join(":"))));
        }
        passwd.unique(&mut records)?;
        let users = records.len();
        let mut groups = Vec::new();
        let mut memberships = Vec::new();
        for (line, [name, _, gid, members]) in group.lines()? {
            let name = group.named(line, name)?;
            let number = group.number(line, "gid", gid)?;
            groups.push((line, Record::new(Kind::Group, name, gid.to_owned())));
            let listed = members.split(',').filter(|member| !member.is_empty());
            let own = primary.iter().filter(|(gid, _)| *gid == number).map(|(_, user)| *user);
            for member in listed.chain(own) {
                // Groups may list users that come from elsewhere: they are not for us to sync.
                let known = records.get(..users).unwrap_or_default();
                if known.binary_search_by(|(_, user)| user.name.as_str().cmp(member)).is_ok() {
                    memberships.push(Record::new(Kind::Membership, &[member, " in ", name].concat(), String::new()));
                }
            }
        }
        group.unique(&mut groups)?;
        memberships.sort();
        memberships.dedup();
        let records = records.into_iter().chain(groups).map(|(_, record)| record).chain(memberships).collect();
        Ok(Accounts { records })
    }

    /// How many there are of a kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.records.iter().filter(|record| record.kind == kind).count()
    }

    /// Calls `each` for everything that differs in `now`.
    pub(crate) fn changes(&self, now: &Accounts, mut each: impl FnMut(Change, Kind, &str)) {
        // Both are sorted: walk through them side by side.
        let (mut old, mut new) = (self.records.iter().peekable(), now.records.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => (before.kind, &before.name).cmp(&(after.kind, &after.name)),
            };
            let before = if order.is_le() { old.next() } else { None };
            let after = if order.is_ge() { new.next() } else { None };
            match (before, after) {
                (Some(gone), None) => each(Change::Removed, gone.kind, &gone.name),
                (None, Some(come)) => each(Change::Added, come.kind, &come.name),
                (Some(before), Some(after)) if before.rest != after.rest => each(Change::Changed, after.kind, &after.name),
                _ => {}
            }
        }
    }
}

impl Record {
    fn new(kind: Kind, name: &str, rest: String) -> Record {
        Record { kind, name: name.to_owned(), rest }
    }
}

fn contents(file: &str) -> Result<Vec<u8>, Unusable> {
    let unusable = |reason| Unusable { file: file.to_owned(), line: 0, reason };
    let mut bytes = Vec::new();
    let mut source = File::open(file).map_err(|error| unusable(Reason::Io(error)))?.take(MAX_FILE + 1);
    source.read_to_end(&mut bytes).map_err(|error| unusable(Reason::Io(error)))?;
    if bytes.len() as u64 > MAX_FILE { Err(unusable(Reason::TooLarge)) } else { Ok(bytes) }
}

/// A file of lines of fields.
struct Table<'a> {
    file: &'a str,
    bytes: &'a [u8],
}

impl<'a> Table<'a> {
    fn unusable(&self, line: usize, reason: Reason) -> Unusable {
        Unusable { file: self.file.to_owned(), line, reason }
    }

    /// The lines, numbered from 1, each with its `N` fields. Empty lines and comments are skipped,
    /// as the C libraries do, and so are lines of NIS (`+..`, `-..`), which name no account here.
    fn lines<const N: usize>(&self) -> Result<Vec<(usize, [&'a str; N])>, Unusable> {
        let mut lines = Vec::new();
        for (number, bytes) in (1..).zip(self.bytes.split(|&byte| byte == b'\n')) {
            let text = std::str::from_utf8(bytes).map_err(|_| self.unusable(number, Reason::NotUtf8))?;
            if text.trim_ascii().is_empty() || text.starts_with(['#', '+', '-']) {
                continue;
            }
            let fields: Vec<&str> = text.split(':').collect();
            let found = fields.len();
            let fields = fields.try_into().map_err(|_| self.unusable(number, Reason::Fields { expected: N, found }))?;
            lines.push((number, fields));
        }
        Ok(lines)
    }

    fn named(&self, line: usize, name: &'a str) -> Result<&'a str, Unusable> {
        if name.is_empty() { Err(self.unusable(line, Reason::Empty("name"))) } else { Ok(name) }
    }

    fn number(&self, line: usize, what: &'static str, text: &str) -> Result<u32, Unusable> {
        // `parse` would take a sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.ok_or_else(|| self.unusable(line, Reason::NotANumber(what)))
    }

    /// Sorts what was read, and refuses a name that stands in two lines.
    fn unique(&self, records: &mut [(usize, Record)]) -> Result<(), Unusable> {
        records.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        for pair in records.windows(2) {
            if let [(first, one), (line, other)] = pair {
                if one.name == other.name {
                    return Err(self.unusable(*line, Reason::Repeated { first: *first }));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\n# a comment\nann:x:1000:100:Ann:/home/ann:/bin/sh\n+::::::\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann,from-ldap\n";

    fn parse(passwd: &str, group: &str) -> Result<Accounts, Unusable> {
        Accounts::parse(("passwd", passwd.as_bytes()), ("group", group.as_bytes()))
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
        assert_eq!(parse("", "").unwrap(), Accounts::default());
    }

    #[test]
    fn differences_are_told_by_what_they_are_about() {
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
                "user added bob",
                "user changed root",
                "group changed users",
                "membership removed ann in users",
                "membership removed ann in wheel",
                "membership added bob in wheel",
            ]
        );
        assert_eq!(changes(&after, &after), [""; 0]);
    }

    #[test]
    fn what_cannot_be_used_is_named_by_file_line_and_reason() {
        for (passwd, group, expected) in [
            ("a:x:1:1::/\n", "", "passwd:1: 6 fields where 7 are expected"),
            ("a:x:1:1::/:/bin/sh\nrubbish\n", "", "passwd:2: 1 fields where 7 are expected"),
            (":x:1:1::/:/bin/sh\n", "", "passwd:1: name is empty"),
            ("a:x:one:1::/:/bin/sh\n", "", "passwd:1: uid is not a number from 0 to 4294967295"),
            ("a:x:1:+1::/:/bin/sh\n", "", "passwd:1: gid is not a number from 0 to 4294967295"),
            ("a:x::1::/:/bin/sh\n", "", "passwd:1: uid is not a number from 0 to 4294967295"),
            ("a:x:4294967296:1::/:/bin/sh\n", "", "passwd:1: uid is not a number from 0 to 4294967295"),
            ("a:x:1:1:::\nb:x:2:1:::\n\na:x:3:1:::\n", "", "passwd:4: name already given in line 1"),
            ("", "g:x:1\n", "group:1: 3 fields where 4 are expected"),
            ("", "g:x:-1:\n", "group:1: gid is not a number from 0 to 4294967295"),
            ("", "g:x:1:\n\ng:x:2:\n", "group:3: name already given in line 1"),
        ] {
            assert_eq!(parse(passwd, group).unwrap_err().to_string(), expected);
        }
        let error = Accounts::parse(("passwd", b"ok:x:1:1:::\n\xff\n"), ("group", b"")).unwrap_err();
        assert_eq!(error.to_string(), "passwd:2: not UTF-8");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_the_systems_reason() {
        let error = Accounts::read("/nonexistent/passwd", "/dev/null").unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/passwd: "), "{error}");
        assert!(std::error::Error::source(&error).is_some());
        #[cfg(unix)]
        assert_eq!(Accounts::read("/dev/zero", "/dev/null").unwrap_err().to_string(), "/dev/zero: larger than 16 MiB");
    }
}
