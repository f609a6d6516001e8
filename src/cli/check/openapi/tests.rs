use super::*;

fn ok(text: &str) -> Vec<Operation> {
    operations(&parse(text).unwrap()).unwrap()
}

/// Where the fault is, and what it says.
fn fault(text: &str) -> String {
    let (at, fault) = operations(&parse(text).unwrap()).unwrap_err();
    format!("{at}: {fault}")
}

fn filled(operation: &Operation) -> Vec<String> {
    let servers = operation.servers.iter();
    let target = |server: &Server| {
        let host = server.host.as_deref().unwrap_or_default();
        format!(
            "{} {host}{}{}",
            operation.method,
            server.base,
            operation.path.fill("1")
        )
    };
    servers.map(target).collect()
}

#[test]
fn operations_are_read_with_their_servers_and_query_keys() {
    let found = ok(r##"
openapi: 3.1.0
servers: [ { url: "https://api.example:8443/v1/" } ]
paths:
  x-internal: true
  /apps/{name}:
    parameters: [ { in: query, name: shared }, { in: path, name: name } ]
    summary: text, and no operation
    get:
      operationId: show
      parameters:
        - { in: query, name: "metadata.{key}" }
        - { in: query, name: shared }
        - $ref: "#/components/parameters/Limit"
        - { in: header, name: If-Match }
      responses: { 200: { description: fine } }
    delete: { servers: [ { url: "/v2" }, { url: "//other.example" } ] }
  /files/{name}.{type}: { $ref: "#/components/pathItems/Files" }
  /same: { $ref: "#/paths/~1apps~1%7Bname%7D" }
components:
  parameters: { Limit: { $ref: "#/components/parameters/Bound" }, Bound: { in: query, name: limit } }
  pathItems: { Files: { servers: [ { url: "{scheme}://{host}/{base}", variables: { scheme: { default: http }, host: { default: files.example }, base: { default: 3 } } } ], put: {} } }
"##);
    let summary: Vec<_> = found
        .iter()
        .map(|operation| (filled(operation), operation.id.as_deref().unwrap_or("-")))
        .collect();
    assert_eq!(
        summary,
        [
            (vec!["GET api.example/v1/apps/1".to_owned()], "show"),
            (
                vec![
                    "DELETE /v2/apps/1".to_owned(),
                    "DELETE other.example/apps/1".to_owned()
                ],
                "-"
            ),
            (vec!["PUT files.example/3/files/1.1".to_owned()], "-"),
            (vec!["GET api.example/v1/same".to_owned()], "show"),
            (
                vec![
                    "DELETE /v2/same".to_owned(),
                    "DELETE other.example/same".to_owned()
                ],
                "-"
            ),
        ]
    );
    let keys: Vec<_> = found[0].query.iter().map(Template::as_str).collect();
    assert_eq!(keys, ["shared", "metadata.{key}", "limit"]);
    assert_eq!(found[0].query[1].fill("1"), "metadata.1");
    assert_eq!(found[2].query, []);
}

#[test]
fn json_and_yaml_are_read_alike() {
    let json = ok(r#"{"openapi": "3.0.1", "paths": {"/a": {"get": {}}}}"#);
    assert_eq!(json, ok("openapi: 3.0\npaths: { /a: { get: {} } }"));
    assert_eq!(filled(&json[0]), ["GET /a"]);
    let relative =
        ok(r#"{"openapi": "3.0.1", "servers": [{"url": "./v1/"}], "paths": {"/a": {"get": {}}}}"#);
    assert_eq!(filled(&relative[0]), ["GET /v1/a"]);
}

#[test]
fn what_is_no_document_is_told_by_its_place() {
    for (text, expected) in [
        ("[ 1 ]", "#: expected an object here"),
        (
            "swagger: \"2.0\"",
            "#/swagger: this is a Swagger document; convert it to OpenAPI 3 first",
        ),
        ("info: {}", "#: there is no `openapi`"),
        (
            "openapi: 3.10.0",
            "#/openapi: this is version 3.10.0 of OpenAPI; 3.0 and 3.1 are understood",
        ),
        ("openapi: 3.0.1", "#: there is no `paths`"),
        (
            "openapi: 3.0.1\npaths: []",
            "#/paths: expected an object here",
        ),
        (
            "openapi: 3.0.1\npaths: { a: {} }",
            "#/paths/a: `a` is no path: it does not begin with a slash",
        ),
        (
            "openapi: 3.0.1\npaths: { \"/a/{b\": {} }",
            "#/paths/~1a~1{b: the braces in `/a/{b` do not pair",
        ),
        (
            "openapi: 3.0.1\npaths: { /a~b: 1 }",
            "#/paths/~1a~0b: expected an object here",
        ),
        (
            "openapi: 3.0.1\npaths: { /a: { get: 1 } }",
            "#/paths/~1a/get: expected an object here",
        ),
        (
            "openapi: 3.0.1\npaths: { /a: { get: { parameters: {} } } }",
            "#/paths/~1a/get/parameters: expected a list of parameters here",
        ),
        (
            "openapi: 3.0.1\npaths: { /a: { get: { parameters: [ { in: query } ] } } }",
            "#/paths/~1a/get/parameters/0: there is no `name`",
        ),
        (
            "openapi: 3.0.1\npaths: { /a: { $ref: other.yaml#/a } }",
            "#/paths/~1a: `other.yaml#/a` points out of the document; bundle it into one file first",
        ),
        (
            "openapi: 3.0.1\npaths: { /a: { $ref: \"#/b\" } }",
            "#/paths/~1a: `#/b` points at nothing",
        ),
        (
            "openapi: 3.0.1\npaths: { /a: { $ref: \"#/b\" } }\nb: { $ref: \"#/c\" }\nc: { $ref: \"#/b\" }",
            "#/paths/~1a: `#/b` leads back to itself",
        ),
        (
            "openapi: 3.0.1\npaths: {}\nservers: {}",
            "#/servers: expected a list of servers here",
        ),
        (
            "openapi: 3.0.1\npaths: {}\nservers: [ {} ]",
            "#/servers/0: there is no `url`",
        ),
        (
            "openapi: 3.0.1\npaths: {}\nservers: [ { url: \"https://{region}.example\" } ]",
            "#/servers/0: the server variable `region` has no default",
        ),
        (
            "openapi: 3.0.1\npaths: {}\nservers: [ { url: \"https://a b\" } ]",
            "#/servers/0: `https://a b` is no URL",
        ),
    ] {
        assert_eq!(fault(text), expected, "{text}");
    }
}

#[test]
fn what_is_neither_json_nor_yaml_has_a_line_and_a_column() {
    assert!(matches!(parse("{\n  \"openapi\": }"), Err((2, 14, _))));
    assert!(matches!(parse("openapi: 3\npaths: ["), Err((2.., _, _))));
}
