//! Path templates as OpenAPI writes them. It has no variables of several segments, so each wildcard gets a name of its
//! own; and it takes `/a/{x}` and `/a/{y}` for the same path, so the first name of a place stands for all.

use std::collections::HashMap;

use prost_reflect::FieldDescriptor;

use crate::routing::{
    binding::PathVariable,
    template::{Segment, Template},
};

/// The paths so far.
#[derive(Debug, Default)]
pub struct Paths {
    /// The names of the wildcards, by the path without them.
    names: HashMap<String, Vec<String>>,
}

/// A parameter of a path.
#[derive(Debug)]
pub struct PathParameter {
    /// What it is called in the path.
    pub name: String,
    /// The field whose value it is; none where only a part of one is, or nothing takes it.
    pub field: Option<FieldDescriptor>,
}

impl Paths {
    /// A path template as OpenAPI writes it, and its parameters from left to right.
    pub fn place(&mut self, template: &Template, variables: &[PathVariable]) -> (String, Vec<PathParameter>) {
        let wildcards = wildcards(template, variables);
        let (fields, names): (Vec<_>, Vec<_>) = wildcards.into_iter().unzip();
        let blanks = vec![String::new(); names.len()];
        let names = self.names.entry(write(template, &blanks)).or_insert_with(|| distinct(&names)).clone();
        let path = write(template, &names);
        (path, names.into_iter().zip(fields).map(|(name, field)| PathParameter { name, field }).collect())
    }
}

/// Short names where they are distinct: `task.id` is `id`.
fn distinct(names: &[String]) -> Vec<String> {
    let short = |name: &String| name.rsplit('.').next().unwrap_or_default().to_owned();
    let is_alone = |name: &String| names.iter().filter(|other| short(other) == short(name)).count() == 1;
    names.iter().map(|name| if is_alone(name) { short(name) } else { name.clone() }).collect()
}

/// The field and the full name of each wildcard.
fn wildcards(template: &Template, variables: &[PathVariable]) -> Vec<(Option<FieldDescriptor>, String)> {
    let is_wildcard = |segment: &Segment| !matches!(segment, Segment::Literal(_));
    let wildcards = template.segments.iter().enumerate().filter(|(_, segment)| is_wildcard(segment));
    wildcards
        .map(|(index, _)| {
            let around = variables.iter().find(|PathVariable { variable, .. }| {
                variable.start <= index && variable.end.is_none_or(|end| index < end)
            });
            let Some(PathVariable { variable, field }) = around else {
                return (None, format!("segment{}", index + 1));
            };
            let end = variable.end.unwrap_or(template.segments.len());
            if end - variable.start == 1 {
                return (Some(field.last().clone()), field.json_name());
            }
            let before = template.segments[variable.start..index].iter().filter(|segment| is_wildcard(segment)).count();
            (None, format!("{}{}", field.json_name(), before + 1))
        })
        .collect()
}

fn write(template: &Template, names: &[String]) -> String {
    let mut names = names.iter();
    let mut path = String::new();
    for segment in &template.segments {
        path.push('/');
        match segment {
            Segment::Literal(text) => path.push_str(text),
            Segment::Any | Segment::Rest => {
                path.push('{');
                path.push_str(names.next().map_or("", String::as_str));
                path.push('}');
            }
        }
    }
    if !template.verb.is_empty() {
        path.push(':');
        path.push_str(&template.verb);
    }
    path
}
