//! The compiled matcher: from an HTTP method and a path to what is bound there, through a trie of segments.
//!
//! A literal beats `*`, which beats `**`, segment by segment from the left; the first match that takes the method is
//! taken. A path whose end reads as a verb that some template has is read so, and else as one without a verb.

use std::{borrow::Cow, collections::HashMap};

use http::Method;

use crate::{
    codec::percent,
    routing::template::{Segment, Template},
};

/// What is bound to methods and path templates.
#[derive(Debug)]
pub struct Router<T> {
    root: Node<T>,
}

/// What was found for a path.
#[derive(Debug)]
pub struct Match<'r, 'p, T> {
    /// What is bound there.
    pub target: &'r T,
    /// The segments of the path as they were sent, without the verb.
    pub segments: Vec<&'p str>,
}

/// Why nothing was found for a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Miss {
    /// No template matches.
    NotFound,
    /// Templates match, with these methods.
    Method(Vec<Method>),
    /// The path is not percent-encoded UTF-8.
    BadEncoding,
}

/// Two bindings of one method and one shape of path.
#[derive(Debug, thiserror::Error)]
#[error("another RPC is bound to the same method and path")]
pub struct Conflict;

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<String, Node<T>>,
    any: Option<Box<Node<T>>>,
    /// What is bound to paths that end here, by verb.
    here: Ends<T>,
    /// What is bound to paths that go on from here in any way, by verb.
    rest: Ends<T>,
}

type Ends<T> = HashMap<String, Vec<(MethodPattern, T)>>;

/// The method of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodPattern {
    /// This one.
    Only(Method),
    /// All that have no binding of their own.
    Any,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), any: None, here: Ends::new(), rest: Ends::new() }
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
    /// If they are bound already.
    pub fn bind(&mut self, method: MethodPattern, template: &Template, target: T) -> Result<(), Conflict> {
        let mut node = &mut self.root;
        let mut takes_rest = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::Any => node = node.any.get_or_insert_default(),
                Segment::Rest => takes_rest = true,
            }
        }
        let ends = if takes_rest { &mut node.rest } else { &mut node.here };
        let targets = ends.entry(template.verb.clone()).or_default();
        if targets.iter().any(|(bound, _)| *bound == method) {
            return Err(Conflict);
        }
        targets.push((method, target));
        Ok(())
    }

    /// Looks up a path as it was sent, without its query. HEAD finds what is bound to GET.
    ///
    /// # Errors
    /// If nothing is bound there, or not to this method.
    pub fn find<'r, 'p>(&'r self, method: &Method, path: &'p str) -> Result<Match<'r, 'p, T>, Miss> {
        let path = path.strip_prefix('/').ok_or(Miss::NotFound)?;
        let start = path.rfind('/').map_or(0, |slash| slash + 1);
        if let Some(colon) = path[start..].rfind(':') {
            let (path, verb) = (&path[..start + colon], &path[start + colon + 1..]);
            let verb = percent::decode(verb).map_err(|_| Miss::BadEncoding)?;
            // A colon at the end begins no verb.
            if !verb.is_empty() {
                match self.find_with_verb(method, path, &verb) {
                    Err(Miss::NotFound) => {}
                    found => return found,
                }
            }
        }
        self.find_with_verb(method, path, "")
    }

    fn find_with_verb<'r, 'p>(&'r self, method: &Method, path: &'p str, verb: &str) -> Result<Match<'r, 'p, T>, Miss> {
        let segments: Vec<_> = path.split('/').collect();
        let decoded: Result<Vec<_>, _> = segments.iter().copied().map(percent::decode).collect();
        let mut found = Vec::new();
        self.root.collect(&decoded.map_err(|_| Miss::BadEncoding)?, verb, &mut found);
        for targets in &found {
            if let Some(target) = pick(targets, method) {
                return Ok(Match { target, segments });
            }
        }
        Err(if found.is_empty() { Miss::NotFound } else { Miss::Method(methods(&found)) })
    }
}

impl<T> Node<T> {
    /// Collects what matches, the best match first. Each node is visited at most once, since it lies at one depth, so
    /// no path can make this slow.
    fn collect<'r>(&'r self, path: &[Cow<'_, str>], verb: &str, found: &mut Vec<&'r [(MethodPattern, T)]>) {
        if let [segment, path @ ..] = path {
            if let Some(node) = self.literals.get(&**segment) {
                node.collect(path, verb, found);
            }
            if let Some(node) = self.any.as_deref().filter(|_| !segment.is_empty()) {
                node.collect(path, verb, found);
            }
        } else if let Some(targets) = self.here.get(verb) {
            found.push(targets);
        }
        if let Some(targets) = self.rest.get(verb) {
            found.push(targets);
        }
    }
}

fn pick<'r, T>(targets: &'r [(MethodPattern, T)], method: &Method) -> Option<&'r T> {
    let bound_to = |pattern: &MethodPattern| targets.iter().find(|(bound, _)| bound == pattern);
    bound_to(&MethodPattern::Only(method.clone()))
        .or_else(|| bound_to(&MethodPattern::Only(Method::GET)).filter(|_| method == Method::HEAD))
        .or_else(|| bound_to(&MethodPattern::Any))
        .map(|(_, target)| target)
}

/// The methods that are bound, in the order of their names.
fn methods<T>(found: &[&[(MethodPattern, T)]]) -> Vec<Method> {
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
        text.parse().expect("the template is good")
    }

    fn router(bindings: &[(&str, &'static str)]) -> Router<&'static str> {
        let mut router = Router::default();
        for (method, path) in bindings {
            let pattern = match *method {
                "*" => MethodPattern::Any,
                name => MethodPattern::Only(name.parse().expect("a method")),
            };
            router.bind(pattern, &template(path), *path).expect("no binding is there twice");
        }
        router
    }

    fn found(router: &Router<&'static str>, method: &Method, path: &str) -> Result<&'static str, Miss> {
        router.find(method, path).map(|found| *found.target)
    }

    #[test]
    fn a_literal_beats_a_wildcard_beats_the_rest() {
        let router = router(&[("GET", "/a/{x=**}"), ("GET", "/a/{x}"), ("GET", "/a/b"), ("GET", "/a/{x}/c")]);
        assert_eq!(found(&router, &Method::GET, "/a/b"), Ok("/a/b"));
        assert_eq!(found(&router, &Method::GET, "/a/z"), Ok("/a/{x}"));
        assert_eq!(found(&router, &Method::GET, "/a/b/c"), Ok("/a/{x}/c"));
        assert_eq!(found(&router, &Method::GET, "/a/b/d"), Ok("/a/{x=**}"));
        assert_eq!(found(&router, &Method::GET, "/a"), Ok("/a/{x=**}"));
    }

    #[test]
    fn a_wildcard_serves_the_method_that_a_literal_lacks() {
        let router = router(&[("GET", "/a/b"), ("POST", "/a/{x}")]);
        assert_eq!(found(&router, &Method::POST, "/a/b"), Ok("/a/{x}"));
    }

    #[test]
    fn a_known_verb_is_split_off() {
        let router = router(&[("GET", "/a/{x}"), ("POST", "/a/{x}:go"), ("GET", "/a:list")]);
        assert_eq!(found(&router, &Method::POST, "/a/1:go"), Ok("/a/{x}:go"));
        assert_eq!(router.find(&Method::POST, "/a/1:go").expect("bound").segments, ["a", "1"]);
        assert_eq!(found(&router, &Method::GET, "/a:list"), Ok("/a:list"));
        assert_eq!(found(&router, &Method::GET, "/a/1:go"), Err(Miss::Method(vec![Method::POST])));
    }

    #[test]
    fn a_verb_matches_in_its_encoded_form_too() {
        let router = router(&[("GET", "/a/{x}:go%2Fon")]);
        for path in ["/a/1:go%2Fon", "/a/1:g%6F%2fon"] {
            assert_eq!(found(&router, &Method::GET, path), Ok("/a/{x}:go%2Fon"), "{path}");
        }
        assert_eq!(found(&router, &Method::GET, "/a/1:go%2"), Err(Miss::BadEncoding));
    }

    #[test]
    fn a_colon_at_the_end_is_part_of_the_segment() {
        let router = router(&[("GET", "/a/{x}"), ("GET", "/b")]);
        assert_eq!(router.find(&Method::GET, "/a/1:").expect("bound").segments, ["a", "1:"]);
        assert_eq!(found(&router, &Method::GET, "/b:"), Err(Miss::NotFound));
    }

    #[test]
    fn an_unknown_or_encoded_verb_is_part_of_the_segment() {
        let router = router(&[("GET", "/a/{x}"), ("GET", "/a/{x}:go")]);
        for path in ["/a/1:stop", "/a/1%3Ago"] {
            assert_eq!(found(&router, &Method::GET, path), Ok("/a/{x}"), "{path}");
        }
    }

    #[test]
    fn another_method_is_told_which_ones_there_are() {
        let router = router(&[("GET", "/a/{x}"), ("DELETE", "/a/{x}"), ("PATCH", "/a/b")]);
        let allowed = vec![Method::DELETE, Method::GET, Method::HEAD, Method::PATCH];
        assert_eq!(found(&router, &Method::PUT, "/a/b"), Err(Miss::Method(allowed)));
    }

    #[test]
    fn head_finds_what_is_bound_to_get() {
        let router = router(&[("GET", "/a")]);
        assert_eq!(found(&router, &Method::HEAD, "/a"), Ok("/a"));
    }

    #[test]
    fn a_binding_of_every_method_yields_to_one_of_its_own() {
        let mut router = Router::default();
        router.bind(MethodPattern::Any, &template("/a"), "any").expect("free");
        router.bind(MethodPattern::Only(Method::GET), &template("/a"), "get").expect("free");
        assert_eq!(found(&router, &Method::GET, "/a"), Ok("get"));
        assert_eq!(found(&router, &Method::PUT, "/a"), Ok("any"));
    }

    #[test]
    fn an_empty_segment_is_no_value() {
        let router = router(&[("GET", "/a/{x}"), ("GET", "/a/{x}/b")]);
        for path in ["/a/", "/a//b", "//a/1", "/a/1/"] {
            assert_eq!(found(&router, &Method::GET, path), Err(Miss::NotFound), "{path}");
        }
    }

    #[test]
    fn a_literal_matches_in_its_encoded_form_too() {
        let router = router(&[("GET", "/tasks")]);
        assert_eq!(found(&router, &Method::GET, "/t%61sks"), Ok("/tasks"));
    }

    #[test]
    fn a_path_in_bad_encoding_is_told_apart() {
        let router = router(&[("GET", "/a/{x}")]);
        assert_eq!(found(&router, &Method::GET, "/a/%zz"), Err(Miss::BadEncoding));
    }

    #[test]
    fn one_shape_of_path_is_bound_once() {
        let mut router = router(&[("GET", "/a/{x}")]);
        let get = MethodPattern::Only(Method::GET);
        assert!(router.bind(get.clone(), &template("/a/{y=*}"), "again").is_err());
        assert!(router.bind(get, &template("/a/{y}:go"), "another verb").is_ok());
    }
}
