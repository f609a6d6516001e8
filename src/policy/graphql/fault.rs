//! Why a GraphQL request is not judged, and the bounds it is held to.

use thiserror::Error;

/// Tokens of a document, inclusive: names, punctuation, values, and each run of white space.
///
/// Introspection of a schema, longer than what clients send otherwise, has some 500.
pub(super) const MAX_TOKENS: usize = 2_000;

/// Braces and brackets in each other, inclusive, with fragments expanded.
///
/// Introspection nests 13. The parser recurses, so this also bounds the stack.
pub(super) const MAX_DEPTH: usize = 32;

/// Named fragments of a document, inclusive.
pub(super) const MAX_FRAGMENTS: usize = 50;

/// Root fields of all operations of a document, inclusive, each occurrence counted.
pub(super) const MAX_ROOTS: usize = 64;

/// Bytes of a name, inclusive. Names go into answers and into the log.
pub(super) const MAX_NAME: usize = 128;

/// Why a request is not judged. All of these are the client's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GraphQlFault {
    /// Several requests in one.
    #[error("the body is a list: batches are not taken, send one request at a time")]
    Batch,
    /// Any other JSON value.
    #[error("the body is no GraphQL request: it must be an object with `query`")]
    NoRequest,
    /// `query` is missing or no text. It is also where a persisted query would be.
    #[error("`query` must be there and be the text of a document; stored queries are not run")]
    NoQuery,
    /// A key besides the three.
    #[error("a request has `query`, `variables` and `operationName` and no other key")]
    UnknownKey,
    /// `variables` is no object.
    #[error("`variables` must be an object")]
    Variables,
    /// `operationName` is no text.
    #[error("`operationName` must be a text")]
    OperationName,
    /// A character that servers take for different things.
    #[error(
        "the document has a control character, a lone carriage return, or a separator of lines or \
         paragraphs at byte {offset}"
    )]
    Character {
        /// From 0.
        offset: usize,
    },
    /// Not GraphQL.
    #[error("the document is malformed at byte {offset}")]
    Syntax {
        /// From 0.
        offset: usize,
    },
    /// A name beyond any that a schema has.
    #[error("a name in the document is longer than {MAX_NAME} bytes")]
    LongName,
    /// Over the bound.
    #[error("the document has more than {MAX_TOKENS} tokens")]
    TooManyTokens,
    /// Over the bound.
    #[error("the document nests deeper than {MAX_DEPTH} levels, fragments expanded")]
    TooDeep,
    /// Over the bound.
    #[error("the document has more than {MAX_FRAGMENTS} fragments")]
    TooManyFragments,
    /// Over the bound.
    #[error("the request asks for more than {MAX_ROOTS} root fields")]
    TooManyRoots,
    /// Over the bound, which grows with the variables.
    #[error("the document repeats the values of its variables too often")]
    TooManyCopies,
    /// A schema definition; only operations and fragments are run.
    #[error("the document defines types; it may have operations and fragments only")]
    NotExecutable,
    /// A stream of events, for which no rule exists.
    #[error("subscriptions are not taken")]
    Subscription,
    /// Fragments only.
    #[error("the document has no operation")]
    NoOperation,
    /// Several operations, and one has no name.
    #[error("the document has several operations, and not all of them have a name")]
    Unnamed,
    /// Two operations of one name.
    #[error("the document has two operations of one name")]
    RepeatedOperation,
    /// Several operations, and none is selected.
    #[error("the document has several operations: select one by `operationName`")]
    Unselected,
    /// `operationName` names none.
    #[error("the document has no operation of the name that `operationName` gives")]
    UnknownOperation,
    /// Two fragments of one name.
    #[error("the document has two fragments of one name")]
    RepeatedFragment,
    /// A spread of a fragment that is not there.
    #[error("the document spreads a fragment that it does not have")]
    UnknownFragment,
    /// A fragment that contains itself.
    #[error("a fragment of the document contains itself")]
    FragmentCycle,
    /// An argument or a field of an input object that occurs twice, or in two spellings.
    #[error("an argument or input field occurs twice, or in two spellings")]
    RepeatedArgument,
    /// Two variables of one name in one operation.
    #[error("an operation declares a variable twice")]
    RepeatedVariable,
    /// An argument takes a variable that the operation does not declare.
    #[error("an argument takes a variable that its operation does not declare")]
    UndeclaredVariable,
    /// One key in the response stands for two fields, or for one with different arguments.
    #[error("two root fields share a key in the response but not their name and arguments")]
    Conflict,
}
