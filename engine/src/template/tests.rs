use serde_json::json;

use super::*;

fn data() -> Value {
    json!({
        "Id": "3f2a9c",
        "Name": "/web",
        "Size": 1536,
        "Load": 0.25,
        "State": {"Running": true, "ExitCode": 0, "Health": null},
        "Config": {"Labels": {"app": "shop", "tier": "front"}, "Env": ["A=1", "B=2"], "Cmd": []},
        "Ports": {"80/tcp": [{"HostPort": "8080"}], "443/tcp": null},
        "Labels": "a=1,b.c=2",
    })
}

fn check(template: &str, expected: &str) {
    let rendered = Template::parse(template).and_then(|parsed| parsed.render(&data()));
    assert_eq!(rendered.as_deref(), Ok(expected), "{template}");
}

fn check_error(template: &str, expected: &str) {
    let rendered = Template::parse(template).and_then(|parsed| parsed.render(&data()));
    let error = rendered.expect_err(template).to_string();
    assert_eq!(error, format!("template parsing error: template: {expected}"), "{template}");
}

#[test]
fn fields_print_as_go_prints_them() {
    check("{{.Id}} {{.Size}} {{.Load}} {{.State.Running}}", "3f2a9c 1536 0.25 true");
    check("{{.Config.Env}} {{.Config.Labels}}", "[A=1 B=2] map[app:shop tier:front]");
    check("{{.State.Health}}", "<nil>");
    check("{{.Config.Labels.none}}", "<no value>");
    check("{{$.Name}} {{ . | len }} {{(.State).ExitCode}}", "/web 8 0");
    check("{{json .State}}", r#"{"Running":true,"ExitCode":0,"Health":null}"#);
    check("{{.Name | json}}", r#""/web""#);
}

#[test]
fn nil_is_what_the_field_s_type_makes_of_it() {
    let data = json!({
        "Config": {"Cmd": null, "Volumes": null, "Labels": {"Cmd": "x"}, "Other": null},
        "State": {"Health": null},
        "ExecIDs": null,
    });
    for (template, expected) in [
        ("{{.Config.Cmd}} {{.Config.Volumes}} {{.ExecIDs}}", "[] map[] []"),
        ("{{.State.Health}} {{.Config.Other}} {{.Config.Labels.Cmd}}", "<nil> <no value> x"),
        ("{{json .Config.Cmd}} {{.Config.Volumes | json}}", "null null"),
        ("{{len .Config.Cmd}} {{.Config.Volumes | len}}", "0 0"),
        ("{{print .Config.Cmd .ExecIDs}} {{printf \"%v\" .Config.Volumes}}", "[] [] map[]"),
        ("{{join .Config.Cmd \" \"}}{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .Config.Volumes}}yes{{else}}no{{end}}", "no"),
        ("{{with .Config}}{{.Cmd}}{{end}}", "[]"),
    ] {
        let rendered = Template::parse(template).and_then(|parsed| parsed.render(&data));
        assert_eq!(rendered.as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn dashes_and_comments_trim() {
    check("a {{- 1 -}} b", "a1b");
    check("a {{-1}} b", "a -1 b");
    check("a{{/* no */}}b {{- /* no */ -}} c", "abc");
    check("{{\"}}\"}}{{`a\"b`}}{{'a'}}", "}}a\"b97");
}

#[test]
fn branches_take_the_first_true_one() {
    check("{{if .State.Running}}up{{else}}down{{end}}", "up");
    check("{{if .State.ExitCode}}bad{{else if .Config.Cmd}}cmd{{else}}good{{end}}", "good");
    check("{{with .State}}{{.Running}}{{end}}", "true");
    check("{{with .State.Health}}{{.}}{{else with .Name}}{{.}}{{else}}none{{end}}", "/web");
    check("{{with $x := .Name}}{{$x}}{{end}}", "/web");
    check("{{if and .State.Running (eq .Name \"/web\" \"/db\")}}yes{{end}}", "yes");
}

#[test]
fn ranges_go_over_lists_and_sorted_keys() {
    check("{{range .Config.Env}}{{.}};{{end}}", "A=1;B=2;");
    check("{{range $i, $e := .Config.Env}}{{if $i}}, {{end}}{{$i}}:{{$e}}{{end}}", "0:A=1, 1:B=2");
    check("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "app=shop tier=front ");
    check("{{range .Config.Cmd}}x{{else}}none{{end}}", "none");
    check("{{range 3}}{{.}}{{end}}", "012");
    check("{{range .Config.Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}}{{end}}", "A=1");
    check("{{range .Config.Env}}{{if eq . \"A=1\"}}{{continue}}{{end}}{{.}}{{end}}", "B=2");
    check(
        "{{range $p, $c := .Ports}}{{$p}}{{with $c}}->{{(index . 0).HostPort}}{{end}} {{end}}",
        "443/tcp 80/tcp->8080 ",
    );
}

#[test]
fn variables_live_in_their_block() {
    check("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21");
    check("{{$x := 1}}{{range .Config.Env}}{{$x = .}}{{end}}{{$x}}", "B=2");
    check_error("{{$y}}", ":1: undefined variable \"$y\"");
    check_error(
        "{{if .Config.Cmd}}{{$y := 1}}{{else}}{{$y}}{{end}}",
        ":1:39: executing \"\" at <$y>: undefined variable: $y",
    );
}

#[test]
fn functions_do_what_docker_says() {
    check("{{index .Config.Labels \"app\"}}[{{index .Config.Labels \"x\"}}]", "shop[]");
    check("{{(index (index .Ports \"80/tcp\") 0).HostPort}}{{index .Config.Env 1}}", "8080B=2");
    check("{{join .Config.Env \",\"}} {{len .Config.Env}} {{len .Id}}", "A=1,B=2 2 6");
    check(
        "{{upper .Name}} {{lower \"AB\"}} {{title \"a bc\"}} {{truncate .Id 3}}",
        "/WEB ab A Bc 3f2",
    );
    check(
        "{{range split \"a/b\" \"/\"}}<{{.}}>{{end}} {{slice .Id 1 3}} {{pad .Id 1 2}}|",
        "<a><b> f2  3f2a9c  |",
    );
    check("{{println .Id 1}}{{print 1 2 \"a\" true}}", "3f2a9c 1\n1 2atrue");
    check(
        "{{printf \"%s-%5d|%-5s|%05.1f|%q|%x|%v%%\" .Id 7 \"a\" 3.14159 \"q\" 255 true}}",
        "3f2a9c-    7|a    |003.1|\"q\"|ff|true%",
    );
    check(
        "{{printf \"%d %s\" \"a\"}}{{printf \"x\" 1}}",
        "%!d(string=a) %!s(MISSING)x%!(EXTRA int=1)",
    );
    check("{{not .Config.Cmd}} {{or .Config.Cmd .Name}} {{and 1 0 2}}", "true /web 0");
    check(
        "{{lt 1 2}} {{le 2 2}} {{gt 1.5 1}} {{ge \"a\" \"b\"}} {{ne 1 2}} {{eq nil .State.Health}}",
        "true true true false true true",
    );
    check("{{html \"<a & b>\"}}", "&lt;a &amp; b&gt;");
    check("{{js \"a<b>&=\\\"é'\\\\\\n\"}}", "a\\u003Cb\\u003E\\u0026\\u003D\\\"é\\'\\\\\\u000A");
    check("{{.Label \"b.c\"}}[{{.Label \"x\"}}]{{.Config.Label \"app\"}}", "2[]shop");
}

#[test]
fn parse_errors_are_in_the_words_of_go() {
    check_error("{{.Id", ":1: unclosed action");
    check_error("\n{{foo}}", ":2: function \"foo\" not defined");
    check_error("{{}}", ":1: missing value for command");
    check_error("{{if .Id}}", ":1: unexpected EOF");
    check_error("{{end}}", ":1: unexpected {{end}}");
    check_error("{{.Id}", ":1: bad character U+007D '}'");
    check_error("{{ ! }}", ":1: unrecognized character in action: U+0021 '!'");
    check_error("{{break}}", ":1: {{break}} outside {{range}}");
    check_error("{{\"a}}", ":1: unterminated quoted string");
    check_error("{{.Id | 1}}", ":1: non executable command in pipeline stage 2");
    check_error("{{/* a }}", ":1: unclosed comment");
}

#[test]
fn render_errors_say_where() {
    check_error("{{.Foo}}", ":1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"");
    check_error(
        "a\n{{.State.Foo}}",
        ":2:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"",
    );
    check_error(
        "{{.Id.X}}",
        ":1:5: executing \"\" at <.Id.X>: can't evaluate field X in type string",
    );
    check_error(
        "{{.State.Health.Status}}",
        ":1:8: executing \"\" at <.State.Health.Status>: \
         nil pointer evaluating interface {}.Status",
    );
    check_error(
        "{{join .Id}}",
        ":1:2: executing \"\" at <join>: wrong number of args for join: want 2 got 1",
    );
    check_error(
        "{{index .Config.Env 5}}",
        ":1:2: executing \"\" at <index>: error calling index: index out of range: 5",
    );
    check_error(
        "{{range .Id}}{{end}}",
        ":1:8: executing \"\" at <.Id>: range can't iterate over 3f2a9c",
    );
    check_error(
        "{{eq .Id 1}}",
        ":1:2: executing \"\" at <eq>: error calling eq: incompatible types for comparison",
    );
    check_error(
        "{{.Id \"x\"}}",
        ":1:2: executing \"\" at <.Id>: Id is not a method but has arguments",
    );
}

#[test]
fn lists_have_their_escapes() {
    assert_eq!(unescape(r"{{.A}}\t{{.B}}\n"), "{{.A}}\t{{.B}}\n");
}
