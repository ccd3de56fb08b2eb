//! Files that cannot be imported. Nothing of them is.

use std::io::Write;

use flate2::{Compression, Crc, write::DeflateEncoder};
use futures::stream;
use service_kit::{assert_refused, on_each_database, testing::TestDatabase};
use taskey_proto::task::v1::{FileFormat, ImportTasksRequest};
use tonic::Code;
use tonic_types::StatusExt;

use super::{invalid_fields, jsonl, task_line};
use crate::support::{Service, User};

on_each_database!(
    files_that_are_cut_off_are_refused,
    files_in_utf_16_are_refused,
    invalid_rows_are_named,
    cycles_of_parents_are_refused,
    duplicate_ids_are_refused,
    only_some_of_many_errors_are_described,
    files_of_another_format_are_refused,
    rows_that_are_too_long_are_refused,
    archives_that_expand_too_much_are_refused,
    damaged_archives_are_refused,
    format_is_required,
    later_messages_must_not_contradict_the_first,
);

impl User {
    /// Asserts that a file is refused, and that the account remains empty.
    pub(super) async fn assert_not_imported(&self, format: FileFormat, file: &[u8]) -> Vec<String> {
        let refused = self.import_with(format, file, false).await.expect_err("it is refused");
        let reason = refused.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        assert_eq!((refused.code(), &reason[..]), (Code::InvalidArgument, "IMPORT_INVALID"), "{refused:?}");
        assert!(self.titles().await.is_empty());
        invalid_fields(&refused)
    }
}

async fn files_that_are_cut_off_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let (ann, bob) = (service.user(), service.user());
    ann.make("one").await;
    ann.make("two").await;
    for format in [FileFormat::Jsonl, FileFormat::Icalendar] {
        let file = ann.export(format).await;
        for length in (0..file.trim_end().len()).step_by(7) {
            bob.assert_not_imported(format, &file.as_bytes()[..length]).await;
        }
    }
    let file = ann.export(FileFormat::Csv).await;
    let half = file.len() - 30;
    bob.assert_not_imported(FileFormat::Csv, &file.as_bytes()[..half]).await;
    for (format, file) in
        [(FileFormat::Csv, "title,notes\nA,1\nB"), (FileFormat::TodoistCsv, "TYPE,INDENT,CONTENT\ntask,1")]
    {
        bob.assert_not_imported(format, file.as_bytes()).await;
    }
    for (format, start) in [(FileFormat::Csv, "title\n"), (FileFormat::TodoistCsv, "TYPE,INDENT,CONTENT\ntask,1,")] {
        let within_quotes = format!("{start}\"several\nlines, \"\"quoted\"\"\n");
        assert_eq!(bob.assert_not_imported(format, within_quotes.as_bytes()).await, ["rows[2]"]);
    }
    for (format, file) in [
        (FileFormat::GoogleTakeout, &include_bytes!("../../files/google_takeout.json")[..]),
        (FileFormat::MicrosoftTodo, include_bytes!("../../files/microsoft_todo.json")),
        (FileFormat::TodoistBackup, include_bytes!("../../files/todoist_backup.zip")),
    ] {
        bob.assert_not_imported(format, &file[..file.len() / 2]).await;
    }
}

async fn files_in_utf_16_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let text = "title\r\nBuy milk\r\n".encode_utf16();
    let little: Vec<u8> = [0xfeff].into_iter().chain(text.clone()).flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = [0xfeff].into_iter().chain(text).flat_map(u16::to_be_bytes).collect();
    for file in [little, big] {
        for format in [FileFormat::Csv, FileFormat::Jsonl, FileFormat::Icalendar, FileFormat::TodoistCsv] {
            assert_eq!(ann.assert_not_imported(format, &file).await, ["rows[1]"]);
        }
    }
    // Files in UTF-8 may begin with a byte order mark.
    ann.import(FileFormat::Csv, "\u{feff}title\r\nBuy milk\r\n").await;
    assert_eq!(ann.titles().await, ["Buy milk"]);
}

async fn invalid_rows_are_named(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = jsonl(&[
        task_line("a", "", "one"),
        r#"{"task":{"id":"b","title":"two","dueDate":"30.11.2026"}}"#.to_owned(),
        "not JSON".to_owned(),
        r#"{"task":{"id":"c","title":"three","priority":"URGENT"}}"#.to_owned(),
        r#"{"task":{"id":"d","title":"four","dueDate":"2026-11-30","dueTime":"2026-11-30T08:00:00Z"}}"#.to_owned(),
        r#"{"task":{"title":"no id"}}"#.to_owned(),
    ]);
    let fields = ann.assert_not_imported(FileFormat::Jsonl, file.as_bytes()).await;
    assert_eq!(
        fields,
        ["rows[3].due_date", "rows[4]", "rows[5].priority", "rows[6].due_date", "rows[6].due_time", "rows[7].id"]
    );
    let fields = ann.assert_not_imported(FileFormat::Csv, b"title,due_date\nA,2026-11-30\nB,soon\nC\n").await;
    assert_eq!(fields, ["rows[4]"]);
    let fields = ann.assert_not_imported(FileFormat::Csv, b"title,due_date\nA,2026-11-30\nB,soon\n").await;
    assert_eq!(fields, ["rows[3].due_date"]);
}

async fn cycles_of_parents_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    for lines in [
        vec![task_line("a", "a", "one")],
        vec![task_line("a", "b", "one"), task_line("b", "a", "two")],
        vec![task_line("x", "c", "0"), task_line("a", "b", "1"), task_line("b", "c", "2"), task_line("c", "a", "3")],
    ] {
        let fields = ann.assert_not_imported(FileFormat::Jsonl, jsonl(&lines).as_bytes()).await;
        assert!(fields.len() == 1 && fields[0].ends_with("].parent_id"), "{fields:?}");
    }
}

async fn duplicate_ids_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let file = jsonl(&[task_line("a", "", "one"), task_line("a", "", "two")]);
    assert_eq!(ann.assert_not_imported(FileFormat::Jsonl, file.as_bytes()).await, ["rows[3].id"]);
    let id = "0198c0de-0000-7000-8000-00000000000A";
    let file = jsonl(&[task_line(id, "", "one"), task_line(&id.to_lowercase(), "", "two")]);
    assert_eq!(ann.assert_not_imported(FileFormat::Jsonl, file.as_bytes()).await, ["rows[3].id"]);
    let line = |id: &str| serde_json::json!({"task": {"id": id, "title": "x", "sourceId": "a"}}).to_string();
    for other in ["a", "b", id] {
        let file = jsonl(&[line("c"), task_line("d", "", "x"), line(other)]);
        let fields = ann.assert_not_imported(FileFormat::Jsonl, file.as_bytes()).await;
        assert_eq!(fields, ["rows[4].source_id"]);
    }
    let file = jsonl(&[task_line("a", "", "x"), line("b")]);
    assert_eq!(ann.assert_not_imported(FileFormat::Jsonl, file.as_bytes()).await, ["rows[3].source_id"]);
}

async fn only_some_of_many_errors_are_described(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let pair = |n: u32| {
        [task_line(&format!("{n}a"), &format!("{n}b"), "x"), task_line(&format!("{n}b"), &format!("{n}a"), "x")]
    };
    let file = jsonl(&(0..2500).flat_map(pair).collect::<Vec<_>>());
    let refused = ann.import_with(FileFormat::Jsonl, file.as_bytes(), true).await.expect_err("it has cycles");
    assert_eq!((refused.message(), invalid_fields(&refused).len()), ("the file has 2500 errors", 25));
}

async fn files_of_another_format_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let formats = [
        FileFormat::Jsonl,
        FileFormat::Csv,
        FileFormat::Icalendar,
        FileFormat::TodoistCsv,
        FileFormat::TodoistBackup,
        FileFormat::GoogleTakeout,
        FileFormat::MicrosoftTodo,
    ];
    for format in formats {
        for file in [&b""[..], b"\0\xff\x80", b"<html></html>\n", b"{}\n", b"null\n", b"\"\n", b"[[]]\n"] {
            ann.assert_not_imported(format, file).await;
        }
    }
}

async fn rows_that_are_too_long_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let long = "x".repeat(300_000);
    for (format, file) in [
        (FileFormat::Jsonl, jsonl(&[task_line("a", "", &long)])),
        (FileFormat::Csv, format!("title\n{long}\n")),
        (FileFormat::Icalendar, format!("BEGIN:VCALENDAR\nBEGIN:VTODO\nSUMMARY:{long}\nEND:VTODO\nEND:VCALENDAR\n")),
        (FileFormat::GoogleTakeout, format!(r#"{{"items":[{{"id":"l","items":[{{"id":"a","title":"{long}"}}]}}]}}"#)),
    ] {
        ann.assert_not_imported(format, file.as_bytes()).await;
    }
}

/// Returns a zip archive of files with these names and contents, which are not compressed.
pub(super) fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    let crc = |contents: &[u8]| {
        let mut crc = Crc::new();
        crc.update(contents);
        crc.sum()
    };
    archive(&files.iter().map(|(name, contents)| (*name, *contents, 0, crc(contents))).collect::<Vec<_>>())
}

/// Returns a zip archive of files with these names, contents, methods of compression, and checksums.
fn archive(files: &[(&str, &[u8], u16, u32)]) -> Vec<u8> {
    let size = |length: usize| u32::try_from(length).expect("short").to_le_bytes();
    let count = u16::try_from(files.len()).expect("few").to_le_bytes();
    let (mut locals, mut entries) = (Vec::new(), Vec::new());
    for &(name, contents, method, crc) in files {
        let (sizes, name_length) = ([size(contents.len()); 2].concat(), u16::try_from(name.len()).expect("short"));
        let start = [&20u16.to_le_bytes()[..], &[0; 2], &method.to_le_bytes(), &[0; 4], &crc.to_le_bytes()].concat();
        let common = [&start[..], &sizes, &name_length.to_le_bytes()].concat();
        let entry = [b"PK\x01\x02", &[20, 0][..], &common, &[0; 12], &size(locals.len()), name.as_bytes()];
        entries.extend(entry.concat());
        locals.extend([b"PK\x03\x04", &common[..], &[0; 2], name.as_bytes(), contents].concat());
    }
    let end = [b"PK\x05\x06", &[0; 4][..], &count, &count, &size(entries.len()), &size(locals.len()), &[0; 2]];
    [locals, entries, end.concat()].concat()
}

async fn archives_that_expand_too_much_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    // 105 MiB of records without a type. Each is compressed alike, because it repeats the one before.
    let record = [b",,", &b"x".repeat(200_000)[..], b"\n"].concat();
    let mut encoder = DeflateEncoder::new(b"".to_vec(), Compression::best());
    encoder.write_all(b"TYPE,CONTENT,INDENT\n").expect("written to memory");
    let ends = [0; 3].map(|_| {
        encoder.write_all(&record).and_then(|()| encoder.flush()).expect("written to memory");
        encoder.get_ref().len()
    });
    let bytes = encoder.get_ref().clone();
    let repeated = bytes[ends[1]..ends[2]].repeat(550);
    let bomb = archive(&[("bomb.csv", &[bytes, repeated].concat(), 8, 0)]);
    assert!(bomb.len() < 1024 * 1024);
    ann.assert_not_imported(FileFormat::TodoistBackup, &bomb).await;
}

async fn damaged_archives_are_refused(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let project = b"TYPE,CONTENT,INDENT\ntask,one,1\n";
    for file in [
        archive(&[("a.csv", b"\xff\xff\xff\xff", 8, 0)]),
        stored(&[("a.txt", project)]),
        archive(&[("a.csv", project, 12, 0)]),
        stored(&[("a.csv", project)])[..60].to_vec(),
        // The contents do not have this checksum.
        archive(&[("a.csv", project, 0, 1)]),
        stored(&[("a.csv", project)]).into_iter().map(|byte| if byte == b'o' { b'g' } else { byte }).collect(),
    ] {
        ann.assert_not_imported(FileFormat::TodoistBackup, &file).await;
    }
    ann.import_with(FileFormat::TodoistBackup, &stored(&[("a.csv", project)]), false).await.expect("it is imported");
    assert_eq!(ann.titles().await, ["one"]);
}

async fn format_is_required(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let refused = ann.import_with(FileFormat::Unspecified, b"", false).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "format");
    let empty = ann.client.clone().import_tasks(stream::iter(Vec::<ImportTasksRequest>::new())).await;
    assert_refused!(empty, InvalidArgument, "VALIDATION_FAILED", "format");
}

async fn later_messages_must_not_contradict_the_first(database: TestDatabase) {
    let service = Service::start(&database).await;
    let ann = service.user();
    let message = |format: FileFormat, validate_only: bool, content: &str| ImportTasksRequest {
        format: format.into(),
        validate_only,
        content: content.into(),
    };
    let import = |messages: [ImportTasksRequest; 2]| {
        let mut client = ann.client.clone();
        async move { client.import_tasks(stream::iter(messages)).await.map(tonic::Response::into_inner) }
    };
    let first = |validate_only: bool| message(FileFormat::Csv, validate_only, "title\n");
    let refused = import([first(false), message(FileFormat::Unspecified, true, "one\n")]).await;
    assert_refused!(refused, InvalidArgument, "VALIDATION_FAILED", "validate_only");
    for other in [message(FileFormat::Jsonl, true, "one\n"), ImportTasksRequest { format: 4711, ..first(true) }] {
        assert_refused!(import([first(true), other]).await, InvalidArgument, "VALIDATION_FAILED", "format");
    }
    assert!(ann.titles().await.is_empty());
    // Repeating the first message is no contradiction.
    import([first(true), message(FileFormat::Csv, true, "one\n")]).await.expect("a report");
    assert!(ann.titles().await.is_empty());
    import([first(false), message(FileFormat::Csv, false, "one\n")]).await.expect("the file is imported");
    assert_eq!(ann.titles().await, ["one"]);
}
