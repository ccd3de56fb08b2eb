//! Finds the target of an HTTP method and a path in a trie of path segments.
//!
//! A literal takes precedence over `*`, which takes precedence over `**`, segment by segment from the left. The first
//! match that is bound to the method is used. A suffix such as `:archive` is a verb if a matching template has that
//! verb; otherwise it is part of the last segment.

use std::{borrow::Cow, collections::HashMap};

use http::Method;

use crate::{
    codec::percent,
    routing::template::{Segment, Template},
};

/// Targets that are bound to methods and path templates.
#[derive(Debug)]
pub struct Router<T> {
    root: Node<T>,
}

/// The match of a path.
#[derive(Debug)]
pub struct Match<'r, 'p, T> {
    /// The bound target.
    pub target: &'r T,
    /// The segments of the path as they were sent, without the verb.
    pub segments: Vec<&'p str>,
}

/// Why a path has no match.
#[derive(Debug, PartialEq, Eq)]
pub enum MatchError {
    /// No template matches.
    NotFound,
    /// Templates match, but only with these methods.
    MethodNotAllowed(Vec<Method>),
    /// The path is not percent-encoded UTF-8.
    BadEncoding,
}

/// Two bindings have the same method and match the same paths.
#[derive(Debug, thiserror::Error)]
#[error("another RPC is bound to the same method and path")]
pub struct Conflict;

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<String, Node<T>>,
    any: Option<Box<Node<T>>>,
    /// The targets of paths that end at this node, by verb.
    end: VerbTargets<T>,
    /// The targets of paths that continue from this node with any segments, by verb.
    rest: VerbTargets<T>,
}

type VerbTargets<T> = HashMap<String, Vec<(MethodPattern, T)>>;

/// The method of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodPattern {
    /// This method.
    Only(Method),
    /// Every method without its own binding.
    Any,
}

impl MethodPattern {
    /// Returns the name of the method, or `*`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Only(method) => method.as_str(),
            Self::Any => "*",
        }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), any: None, end: VerbTargets::new(), rest: VerbTargets::new() }
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Router<T> {
    /// Binds a method and a path template.
    ///
    /// # Errors
    /// If they are already bound.
    pub fn bind(&mut self, method: MethodPattern, template: &Template, target: T) -> Result<(), Conflict> {
        let mut node = &mut self.root;
        let mut ends_in_rest = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::Any => node = node.any.get_or_insert_default(),
                Segment::Rest => ends_in_rest = true,
            }
        }
        let verbs = if ends_in_rest { &mut node.rest } else { &mut node.end };
        let targets = verbs.entry(template.verb.clone()).or_default();
        if targets.iter().any(|(bound, _)| *bound == method) {
            return Err(Conflict);
        }
        targets.push((method, target));
        Ok(())
    }

    /// Finds the target of a method and a path. The path is percent-encoded and has no query. HEAD finds the targets
    /// of GET.
    ///
    /// # Errors
    /// If the path or the method is not bound, or if the path is not percent-encoded UTF-8.
    pub fn find<'r, 'p>(&'r self, method: &Method, path: &'p str) -> Result<Match<'r, 'p, T>, MatchError> {
        let path = path.strip_prefix('/').ok_or(MatchError::NotFound)?;
        let start = path.rfind('/').map_or(0, |slash| slash + 1);
        if let Some(colon) = path[start..].rfind(':') {
            let (path, verb) = (&path[..start + colon], &path[start + colon + 1..]);
            let verb = percent::decode(verb).map_err(|_| MatchError::BadEncoding)?;
            // A colon at the end does not start a verb.
            if !verb.is_empty() {
                match self.find_with_verb(method, path, &verb) {
                    Err(MatchError::NotFound) => {}
                    result => return result,
                }
            }
        }
        self.find_with_verb(method, path, "")
    }

    fn find_with_verb<'r, 'p>(
        &'r self,
        method: &Method,
        path: &'p str,
        verb: &str,
    ) -> Result<Match<'r, 'p, T>, MatchError> {
        let segments: Vec<_> = path.split('/').collect();
        let decoded: Result<Vec<_>, _> = segments.iter().copied().map(percent::decode).collect();
        let mut found = Vec::new();
        self.root.collect(&decoded.map_err(|_| MatchError::BadEncoding)?, verb, &mut found);
        for targets in &found {
            if let Some(target) = select_target(targets, method) {
                return Ok(Match { target, segments });
            }
        }
        Err(if found.is_empty() { MatchError::NotFound } else { MatchError::MethodNotAllowed(allowed_methods(&found)) })
    }
}

impl<T> Node<T> {
    /// Collects the matching targets, best match first. Each node belongs to one depth and is visited at most once,
    /// so no path can make this slow.
    fn collect<'r>(&'r self, path: &[Cow<'_, str>], verb: &str, found: &mut Vec<&'r [(MethodPattern, T)]>) {
        if let [segment, path @ ..] = path {
            if let Some(node) = self.literals.get(&**segment) {
                node.collect(path, verb, found);
            }
            if let Some(node) = self.any.as_deref().filter(|_| !segment.is_empty()) {
                node.collect(path, verb, found);
            }
        } else if let Some(targets) = self.end.get(verb) {
            found.push(targets);
        }
        if let Some(targets) = self.rest.get(verb) {
            found.push(targets);
        }
    }
}

fn select_target<'r, T>(targets: &'r [(MethodPattern, T)], method: &Method) -> Option<&'r T> {
    let bound_to = |pattern: &MethodPattern| targets.iter().find(|(bound, _)| bound == pattern);
    bound_to(&MethodPattern::Only(method.clone()))
        .or_else(|| bound_to(&MethodPattern::Only(Method::GET)).filter(|_| method == Method::HEAD))
        .or_else(|| bound_to(&MethodPattern::Any))
        .map(|(_, target)| target)
}

/// Returns the bound methods, sorted by name.
fn allowed_methods<T>(found: &[&[(MethodPattern, T)]]) -> Vec<Method> {
    let mut methods = Vec::new();
    for (pattern, _) in found.iter().copied().flatten() {
        if let MethodPattern::Only(method) = pattern {
            methods.push(method.clone());
            if method == Method::GET {
                methods.push(Method::HEAD);
            }
        }
    }
    methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    methods.dedup();
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        text.parse().expect("the template is valid")
    }

    fn router(bindings: &[(&str, &'static str)]) -> Router<&'static str> {
        let mut router = Router::default();
        for (method, path) in bindings {
            let pattern = match *method {
                "*" => MethodPattern::Any,
                name => MethodPattern::Only(name.parse().expect("the method is valid")),
            };
            router.bind(pattern, &template(path), *path).expect("no binding is duplicated");
        }
        router
    }

    fn find_target(router: &Router<&'static str>, method: &Method, path: &str) -> Result<&'static str, MatchError> {
        router.find(method, path).map(|found| *found.target)
    }

    #[test]
    fn literals_precede_wildcards_which_precede_the_rest() {
        let router = router(&[("GET", "/a/{x=**}"), ("GET", "/a/{x}"), ("GET", "/a/b"), ("GET", "/a/{x}/c")]);
        assert_eq!(find_target(&router, &Method::GET, "/a/b"), Ok("/a/b"));
        assert_eq!(find_target(&router, &Method::GET, "/a/z"), Ok("/a/{x}"));
        assert_eq!(find_target(&router, &Method::GET, "/a/b/c"), Ok("/a/{x}/c"));
        assert_eq!(find_target(&router, &Method::GET, "/a/b/d"), Ok("/a/{x=**}"));
        assert_eq!(find_target(&router, &Method::GET, "/a"), Ok("/a/{x=**}"));
    }

    #[test]
    fn wildcard_matches_a_method_that_the_literal_does_not_have() {
        let router = router(&[("GET", "/a/b"), ("POST", "/a/{x}")]);
        assert_eq!(find_target(&router, &Method::POST, "/a/b"), Ok("/a/{x}"));
    }

    #[test]
    fn known_verb_is_separated_from_the_segment() {
        let router = router(&[("GET", "/a/{x}"), ("POST", "/a/{x}:go"), ("GET", "/a:list")]);
        assert_eq!(find_target(&router, &Method::POST, "/a/1:go"), Ok("/a/{x}:go"));
        assert_eq!(router.find(&Method::POST, "/a/1:go").expect("the path is bound").segments, ["a", "1"]);
        assert_eq!(find_target(&router, &Method::GET, "/a:list"), Ok("/a:list"));
        assert_eq!(
            find_target(&router, &Method::GET, "/a/1:go"),
            Err(MatchError::MethodNotAllowed(vec![Method::POST]))
        );
    }

    #[test]
    fn percent_encoded_verb_matches() {
        let router = router(&[("GET", "/a/{x}:go%2Fon")]);
        for path in ["/a/1:go%2Fon", "/a/1:g%6F%2fon"] {
            assert_eq!(find_target(&router, &Method::GET, path), Ok("/a/{x}:go%2Fon"), "{path}");
        }
        assert_eq!(find_target(&router, &Method::GET, "/a/1:go%2"), Err(MatchError::BadEncoding));
    }

    #[test]
    fn trailing_colon_is_part_of_the_segment() {
        let router = router(&[("GET", "/a/{x}"), ("GET", "/b")]);
        assert_eq!(router.find(&Method::GET, "/a/1:").expect("the path is bound").segments, ["a", "1:"]);
        assert_eq!(find_target(&router, &Method::GET, "/b:"), Err(MatchError::NotFound));
    }

    #[test]
    fn unknown_verb_or_encoded_colon_is_part_of_the_segment() {
        let router = router(&[("GET", "/a/{x}"), ("GET", "/a/{x}:go")]);
        for path in ["/a/1:stop", "/a/1%3Ago"] {
            assert_eq!(find_target(&router, &Method::GET, path), Ok("/a/{x}"), "{path}");
        }
    }

    #[test]
    fn unbound_method_returns_the_allowed_methods() {
        let router = router(&[("GET", "/a/{x}"), ("DELETE", "/a/{x}"), ("PATCH", "/a/b")]);
        let allowed = vec![Method::DELETE, Method::GET, Method::HEAD, Method::PATCH];
        assert_eq!(find_target(&router, &Method::PUT, "/a/b"), Err(MatchError::MethodNotAllowed(allowed)));
    }

    #[test]
    fn head_finds_the_target_of_get() {
        let router = router(&[("GET", "/a")]);
        assert_eq!(find_target(&router, &Method::HEAD, "/a"), Ok("/a"));
    }

    #[test]
    fn binding_for_one_method_precedes_a_binding_for_any_method() {
        let mut router = Router::default();
        router.bind(MethodPattern::Any, &template("/a"), "any").expect("the path is not bound yet");
        router.bind(MethodPattern::Only(Method::GET), &template("/a"), "get").expect("the path is not bound yet");
        assert_eq!(find_target(&router, &Method::GET, "/a"), Ok("get"));
        assert_eq!(find_target(&router, &Method::PUT, "/a"), Ok("any"));
    }

    #[test]
    fn wildcard_does_not_match_an_empty_segment() {
        let router = router(&[("GET", "/a/{x}"), ("GET", "/a/{x}/b")]);
        for path in ["/a/", "/a//b", "//a/1", "/a/1/"] {
            assert_eq!(find_target(&router, &Method::GET, path), Err(MatchError::NotFound), "{path}");
        }
    }

    #[test]
    fn percent_encoded_literal_matches() {
        let router = router(&[("GET", "/tasks")]);
        assert_eq!(find_target(&router, &Method::GET, "/t%61sks"), Ok("/tasks"));
    }

    #[test]
    fn invalid_percent_encoding_has_its_own_error() {
        let router = router(&[("GET", "/a/{x}")]);
        assert_eq!(find_target(&router, &Method::GET, "/a/%zz"), Err(MatchError::BadEncoding));
    }

    #[test]
    fn templates_that_match_the_same_paths_conflict() {
        let mut router = router(&[("GET", "/a/{x}")]);
        let get = MethodPattern::Only(Method::GET);
        assert!(router.bind(get.clone(), &template("/a/{y=*}"), "again").is_err());
        assert!(router.bind(get, &template("/a/{y}:go"), "another verb").is_ok());
    }
}
