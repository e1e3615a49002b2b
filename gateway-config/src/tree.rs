//! YAML text as a tree in which every node knows its place.
//!
//! serde reads a document without places and stops at the first mistake; a person with five mistakes
//! should see five lines. Anchors, aliases and tags are refused: no key here needs them, and an alias is
//! how a small file becomes a large one.

use std::borrow::Cow;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use crate::problem::{Place, Problem};

/// Deeper than any key goes; stops the recursion on a file of brackets.
const MAX_DEPTH: usize = 8;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar {
        text: String,
        /// Whether it was written in quotes, and so is text whatever it looks like.
        quoted: bool,
    },
    List(Vec<Node>),
    /// In the order of the file, duplicates included.
    Map(Vec<(String, Place, Node)>),
}

/// The document's root; None when it is empty.
pub(crate) fn read(text: &str) -> Result<Option<Node>, Problem> {
    Reader {
        events: Parser::new_from_str(text),
    }
    .document()
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut root = None;
        let mut documents = 0;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(problem(
                            at,
                            "a second document begins here; only one is read",
                        ));
                    }
                    let (event, at) = self.next()?;
                    root = Some(self.node(event, at, 0)?);
                }
                _ => return Ok(root.filter(|node| !is_empty(&node.value))),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Marker, depth: usize) -> Result<Node, Problem> {
        if depth > MAX_DEPTH {
            return Err(problem(at, "nested deeper than any key goes"));
        }
        let (anchor, tag) = match &event {
            Event::Alias(_) => (1, false),
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            _ => (0, false),
        };
        if anchor != 0 {
            return Err(problem(
                at,
                "anchors (&) and aliases (*) are not read; write the value",
            ));
        }
        if tag {
            return Err(problem(at, "tags (!) are not read; write the plain value"));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(text, style),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => return Err(problem(at, "a value is missing here")),
        };
        Ok(Node {
            place: place(at),
            value,
        })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut entries = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let key = self.node(event, at, depth + 1)?;
            let Value::Scalar { text: name, .. } = key.value else {
                return Err(problem(at, "a key must be a word"));
            };
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            entries.push((name, key.place, value));
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Marker), Problem> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start)),
            Some(Err(e)) => Err(problem(*e.marker(), &format!("not YAML: {}", e.info()))),
            None => Ok((Event::StreamEnd, Marker::default())),
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    Value::Scalar {
        text: text.into_owned(),
        quoted: style != ScalarStyle::Plain,
    }
}

/// YAML 1.2.2 section 10.3.2: what counts as no value.
pub(crate) fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Scalar { text, quoted: false } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
}

fn place(at: Marker) -> Place {
    Place::File {
        line: at.line(),
        column: at.col() + 1,
    }
}

fn problem(at: Marker, message: &str) -> Problem {
    Problem {
        path: String::new(),
        place: place(at),
        message: message.to_owned(),
    }
}
