//! The formats of files with tasks.

use taskey_proto::task::v1::FileFormat;

use super::field::FieldError;

/// A format of exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportFormat {
    JsonLines,
    Csv,
    ICalendar,
}

/// A format of imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImportFormat {
    JsonLines,
    Csv,
    ICalendar,
    TodoistCsv,
    TodoistBackup,
    GoogleTakeout,
    MicrosoftTodo,
}

impl TryFrom<FileFormat> for ExportFormat {
    type Error = FieldError;

    fn try_from(format: FileFormat) -> Result<Self, FieldError> {
        match format {
            FileFormat::Jsonl => Ok(Self::JsonLines),
            FileFormat::Csv => Ok(Self::Csv),
            FileFormat::Icalendar => Ok(Self::ICalendar),
            _ => Err("must be a format of exports: JSONL, CSV or ICALENDAR"),
        }
    }
}

impl TryFrom<FileFormat> for ImportFormat {
    type Error = FieldError;

    fn try_from(format: FileFormat) -> Result<Self, FieldError> {
        match format {
            FileFormat::Jsonl => Ok(Self::JsonLines),
            FileFormat::Csv => Ok(Self::Csv),
            FileFormat::Icalendar => Ok(Self::ICalendar),
            FileFormat::TodoistCsv => Ok(Self::TodoistCsv),
            FileFormat::TodoistBackup => Ok(Self::TodoistBackup),
            FileFormat::GoogleTakeout => Ok(Self::GoogleTakeout),
            FileFormat::MicrosoftTodo => Ok(Self::MicrosoftTodo),
            FileFormat::Unspecified => Err("must be set in the first message"),
        }
    }
}
