//! The path templates of `google.api.http`, such as `/v1/{name=shelves/*/books/*}:archive`.
//!
//! ```text
//! Template = "/" Segments [ Verb ] ;
//! Segments = Segment { "/" Segment } ;
//! Segment  = "*" | "**" | LITERAL | Variable ;
//! Variable = "{" FieldPath [ "=" Segments ] "}" ;
//! FieldPath = IDENT { "." IDENT } ;
//! Verb     = ":" LITERAL ;
//! ```

use std::{borrow::Cow, str::FromStr};

use crate::codec::percent::{self, BadEncoding};

/// A parsed path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The segments of the path. [`Segment::Rest`] can only be the last.
    pub segments: Vec<Segment>,
    /// The text after the last `:`; empty if there is no verb.
    pub verb: String,
    /// The variables, from left to right.
    pub variables: Vec<Variable>,
}

/// A segment of a path template, between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text, percent-decoded.
    Literal(String),
    /// `*`: any text that is not empty.
    Any,
    /// `**`: all remaining segments, possibly none.
    Rest,
}

/// A part of the path that is the value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The path of the field in the request message.
    pub field: String,
    /// The index of its first segment.
    pub start: usize,
    /// The index after its last segment; `None` if it spans all remaining segments.
    pub end: Option<usize>,
}

impl Variable {
    /// Returns the value of the variable in a path that matches its template.
    ///
    /// # Errors
    /// If the path is not percent-encoded UTF-8.
    pub fn value(&self, segments: &[&str]) -> Result<String, BadEncoding> {
        let segments = &segments[self.start..self.end.unwrap_or(segments.len())];
        match (self.end, segments) {
            (Some(_), [only]) => percent::decode(only).map(Cow::into_owned),
            _ => percent::decode_segments(&segments.join("/")),
        }
    }
}

/// Why a text is not a valid path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text does not start with a slash.
    #[error("a path template must start with a slash")]
    NoSlash,
    /// A segment, a verb or a field name is empty.
    #[error("a segment, a verb or a field name is empty")]
    Empty,
    /// A brace has no counterpart, or a variable is inside another variable.
    #[error("the braces do not match")]
    Braces,
    /// A variable is not followed by a slash, a verb or the end.
    #[error("a variable must consist of whole segments")]
    PartOfSegment,
    /// `**` is not at the end.
    #[error("`**` must be the last segment")]
    RestNotLast,
    /// A literal or a field name contains a reserved character.
    #[error("a literal contains a reserved character that is not percent-encoded")]
    Reserved,
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let path = text.strip_prefix('/').ok_or(TemplateError::NoSlash)?;
        let last = path.rfind(['/', '}']).map_or(0, |index| index + 1);
        let (mut rest, verb) = match path[last..].find(':') {
            Some(colon) => (&path[..last + colon], parse_literal(&path[last + colon + 1..])?),
            None => (path, String::new()),
        };
        let mut template = Self { segments: Vec::new(), verb, variables: Vec::new() };
        loop {
            rest = if let Some(variable) = rest.strip_prefix('{') {
                template.push_variable(variable)?
            } else {
                let end = rest.find('/').unwrap_or(rest.len());
                template.push_segment(&rest[..end])?;
                &rest[end..]
            };
            if rest.is_empty() {
                return Ok(template);
            }
            rest = rest.strip_prefix('/').ok_or(TemplateError::PartOfSegment)?;
        }
    }
}

impl Template {
    fn push_segment(&mut self, text: &str) -> Result<(), TemplateError> {
        if self.segments.last() == Some(&Segment::Rest) {
            return Err(TemplateError::RestNotLast);
        }
        self.segments.push(match text {
            "*" => Segment::Any,
            "**" => Segment::Rest,
            _ => Segment::Literal(parse_literal(text)?),
        });
        Ok(())
    }

    /// Parses a variable after its opening brace and returns the text after its closing brace.
    fn push_variable<'t>(&mut self, text: &'t str) -> Result<&'t str, TemplateError> {
        let (variable, after) = text.split_once('}').ok_or(TemplateError::Braces)?;
        let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
        for name in field.split('.') {
            parse_literal(name)?;
        }
        let start = self.segments.len();
        for segment in pattern.split('/') {
            self.push_segment(segment)?;
        }
        let end = (self.segments.last() != Some(&Segment::Rest)).then_some(self.segments.len());
        self.variables.push(Variable { field: field.to_owned(), start, end });
        Ok(after)
    }
}

fn parse_literal(text: &str) -> Result<String, TemplateError> {
    if text.is_empty() {
        return Err(TemplateError::Empty);
    }
    if text.contains(['{', '}']) {
        return Err(TemplateError::Braces);
    }
    if text.contains(['*', '=', ':', '/', '?', '#']) {
        return Err(TemplateError::Reserved);
    }
    percent::decode(text).map(Cow::into_owned).map_err(|_| TemplateError::Reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Template {
        text.parse().expect("the template is valid")
    }

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn variable_without_a_pattern_spans_one_segment() {
        let template = parse("/v1/tasks/{task.id}");
        assert_eq!(template.segments, [literal("v1"), literal("tasks"), Segment::Any]);
        assert_eq!(template.variables, [Variable { field: "task.id".into(), start: 2, end: Some(3) }]);
        assert_eq!(parse("/v1/tasks/{task.id=*}"), template);
    }

    #[test]
    fn variable_can_span_literals_and_wildcards() {
        let template = parse("/v1/{name=shelves/*/books/*}/pages/{page}");
        assert_eq!(template.segments.len(), 7);
        let spans: Vec<_> = template.variables.iter().map(|v| (v.start, v.end)).collect();
        assert_eq!(spans, [(1, Some(5)), (6, Some(7))]);
    }

    #[test]
    fn double_wildcard_spans_the_rest() {
        let template = parse("/v1/{path=files/**}");
        assert_eq!(template.segments, [literal("v1"), literal("files"), Segment::Rest]);
        assert_eq!(template.variables[0].end, None);
    }

    #[test]
    fn verb_can_follow_a_literal_a_variable_or_a_wildcard() {
        for (text, verb) in [("/v1/a:go", "go"), ("/v1/{id}:go", "go"), ("/v1/{p=**}:go", "go"), ("/v1/*:go", "go")] {
            assert_eq!(parse(text).verb, verb, "{text}");
        }
        assert_eq!(parse("/v1/a").verb, "");
    }

    #[test]
    fn literals_are_percent_decoded() {
        assert_eq!(parse("/a%20b").segments, [literal("a b")]);
    }

    #[test]
    fn invalid_templates_are_refused() {
        let refused = [
            ("v1/a", TemplateError::NoSlash),
            ("", TemplateError::NoSlash),
            ("/", TemplateError::Empty),
            ("/v1//a", TemplateError::Empty),
            ("/v1/", TemplateError::Empty),
            ("/v1/a:", TemplateError::Empty),
            ("/v1/{}", TemplateError::Empty),
            ("/v1/{a.}", TemplateError::Empty),
            ("/v1/{a=}", TemplateError::Empty),
            ("/v1/{a", TemplateError::Braces),
            ("/v1/a}", TemplateError::Braces),
            ("/v1/{a={b}}", TemplateError::Braces),
            ("/v1/{a}b", TemplateError::PartOfSegment),
            ("/v1/{a}{b}", TemplateError::PartOfSegment),
            ("/v1/**/a", TemplateError::RestNotLast),
            ("/v1/{a=**}/b", TemplateError::RestNotLast),
            ("/v1/a*", TemplateError::Reserved),
            ("/v1/a:b:c", TemplateError::Reserved),
            ("/v1/a%zz", TemplateError::Reserved),
        ];
        for (text, error) in refused {
            assert_eq!(text.parse::<Template>(), Err(error), "{text}");
        }
    }

    #[test]
    fn value_of_one_segment_is_fully_decoded() {
        let template = parse("/v1/{id}");
        assert_eq!(template.variables[0].value(&["v1", "a%2Fb"]).as_deref(), Ok("a/b"));
    }

    #[test]
    fn value_of_several_segments_keeps_encoded_slashes() {
        let template = parse("/v1/{name=a/*}");
        assert_eq!(template.variables[0].value(&["v1", "a", "b%2Fc%20d"]).as_deref(), Ok("a/b%2Fc d"));
        let template = parse("/v1/{path=**}");
        assert_eq!(template.variables[0].value(&["v1", "b%2Fc"]).as_deref(), Ok("b%2Fc"));
        assert_eq!(template.variables[0].value(&["v1"]).as_deref(), Ok(""));
    }
}
