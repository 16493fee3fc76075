//! The words of `--mount`, and what is wrong with them.

use super::*;

#[track_caller]
fn check(text: &str, expected: serde_json::Value) {
    let mount = parse(text, Path::new("/here/there")).expect("parse");
    assert_eq!(serde_json::to_value(mount).expect("JSON"), expected, "{text}");
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = parse(text, Path::new("/")).expect_err(text);
    assert_eq!(error.to_string(), expected, "{text}");
}

#[test]
fn keys_are_dockers() {
    use serde_json::json;
    let bind = json!({"Type": "bind", "Source": "/source", "Target": "/target"});
    for text in [
        "type=bind,src=/source,dst=/target",
        "type=bind,source=/source,target=/target",
        " type=BIND,source=/source,destination=/target ",
        "type=bind,source=/source,target=/target,bind-recursive=enabled,readonly=false",
    ] {
        check(text, bind.clone());
    }
    check("target=/t,source=/foo", json!({"Type": "volume", "Source": "/foo", "Target": "/t"}));
    check("\"dst=/with,comma\",type=volume", json!({"Type": "volume", "Target": "/with,comma"}));
    for (relative, absolute) in
        [(".", "/here/there"), ("./", "/here/there"), ("../", "/here"), ("../../..", "/")]
    {
        check(
            &format!("type=bind,source={relative},target=/t"),
            json!({"Type": "bind", "Source": absolute, "Target": "/t"}),
        );
    }
    for (text, on) in [("readonly", true), ("ro=1", true), ("ro=true", true), ("ro=0", false)] {
        let mount = parse(&format!("type=bind,src=/a,dst=/b,{text}"), Path::new("/"));
        assert_eq!(mount.expect("parse").read_only, on, "{text}");
    }
    check(
        "type=bind,src=/a,dst=/b,ro,consistency=Cached,bind-recursive=readonly,\
         bind-propagation=rprivate,bind-create-src",
        json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
               "Consistency": "cached",
               "BindOptions": {"Propagation": "rprivate", "CreateMountpoint": true,
                               "ReadOnlyForceRecursive": true}}),
    );
    check(
        "type=bind,src=/a,dst=/b,bind-recursive=disabled",
        json!({"Type": "bind", "Source": "/a", "Target": "/b",
               "BindOptions": {"NonRecursive": true}}),
    );
    check(
        "type=bind,src=/a,dst=/b,readonly,bind-recursive=writable",
        json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
               "BindOptions": {"ReadOnlyNonRecursive": true}}),
    );
    check(
        "src=data,dst=/b,volume-nocopy,volume-subpath=a/b,volume-driver=local,\
         volume-label=foo=foo-value,volume-label=bar,volume-label==x,volume-opt=type=tmpfs,\
         volume-opt=o=",
        json!({"Type": "volume", "Source": "data", "Target": "/b", "VolumeOptions": {
            "NoCopy": true, "Subpath": "a/b", "Labels": {"foo": "foo-value", "bar": ""},
            "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs", "o": ""}}}}),
    );
    check("dst=/b,volume-label==x", json!({"Type": "volume", "Target": "/b", "VolumeOptions": {}}));
    check(
        "type=image,source=foo,target=/target,image-subpath=/bar",
        json!({"Type": "image", "Source": "foo", "Target": "/target",
               "ImageOptions": {"Subpath": "/bar"}}),
    );
    for text in ["tmpfs-size=1m,tmpfs-mode=0700", "tmpfs-size=1MB,tmpfs-mode=700"] {
        check(
            &format!("type=tmpfs,target=/t,{text}"),
            json!({"Type": "tmpfs", "Target": "/t",
                   "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o700}}),
        );
    }
}

#[test]
fn what_is_wrong_is_said_as_docker_does() {
    for (text, error) in [
        ("", "value is empty"),
        ("type=volume,target=/foo,bogus=foo", "unknown option 'bogus' in 'bogus=foo'"),
        (
            "type=volume, src=/foo,target=/foo",
            "invalid option 'src' in ' src=/foo': option should not have whitespace",
        ),
        (
            "type=volume,src =/foo,target=/foo",
            "invalid option 'src' in 'src =/foo': option should not have whitespace",
        ),
        ("type=volume,src=,target=/foo", "invalid value for 'src': value is empty"),
        (
            "type=volume,src= /foo,target=/foo",
            "invalid value for 'src' in 'src= /foo': value should not have whitespace",
        ),
        ("type=volume,target=/foo,bogus", "invalid field 'bogus' must be a key=value pair"),
        ("type=tmpfs,target=/foo,tmpfs-size=foo", "invalid value for tmpfs-size: foo"),
        ("type=tmpfs,target=/foo,tmpfs-mode=foo", "invalid value for tmpfs-mode: foo"),
        (
            "type=volume,target=/foo,source=/foo,bind-propagation=rprivate",
            "cannot mix 'bind-*' options with mount type 'volume'",
        ),
        (
            "type=bind,target=/foo,source=/foo,volume-nocopy=true",
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        (
            "type=bind,target=/foo,source=/foo,readonly=no",
            "invalid value for 'readonly': invalid boolean value (\"no\"): must be one of \
             \"true\", \"1\", \"false\", or \"0\" (default \"true\")",
        ),
        ("type=bind,readonly=", "invalid value for 'readonly': value is empty"),
        (
            "type=bind,source=/foo,target=/bar,bind-recursive=writable",
            "option 'bind-recursive=writable' requires 'readonly' to be specified in \
             conjunction",
        ),
        (
            "type=bind,source=/foo,target=/bar,bind-recursive=readonly,readonly",
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be \
             specified in conjunction",
        ),
        (
            "type=bind,src=/foo,dst=/bar,bind-recursive=yes",
            "invalid value for bind-recursive: yes (must be \"enabled\", \"disabled\", \
             \"writable\", or \"readonly\")",
        ),
        (
            "type=bind,bind-nonrecursive",
            "bind-nonrecursive is deprecated, use bind-recursive=disabled instead",
        ),
        ("type=npipe,dst=/a", "invalid mount config for type \"npipe\": mount type unknown"),
        (
            "type=bind,src=/a,dst=/b,bind-propagation=far",
            "invalid mount config for type \"bind\": invalid propagation mode: far",
        ),
        ("type=bind,a\"b", "parse error on line 1, column 12: bare \" in non-quoted field"),
    ] {
        refused(text, error);
    }
}

#[test]
fn a_daemon_refuses_what_cannot_be_mounted() {
    for (text, error) in [
        ("type=bind,src=/a", "\"bind\": field Target must not be empty"),
        ("type=bind,dst=/a", "\"bind\": field Source must not be empty"),
        ("src=a,dst=/a/..", "\"volume\": invalid specification: destination can't be '/'"),
        ("src=a,dst=a", "\"volume\": invalid mount path: 'a' mount path must be absolute"),
        (
            "type=bind,src=a/b,dst=/a",
            "\"bind\": invalid mount path: 'a/b' mount path must be absolute",
        ),
        ("type=tmpfs,src=/a,dst=/a", "\"tmpfs\": field Source must not be specified"),
        ("type=image,dst=/a", "\"image\": field Source must not be empty"),
        (
            "dst=/a,volume-subpath=x",
            "\"volume\": must not set Subpath when using anonymous volumes",
        ),
        (
            "src=v,dst=/a,volume-subpath=x/../..",
            "\"volume\": subpath must be a relative path within the volume",
        ),
        (
            "type=image,src=i,dst=/a,image-subpath=/x",
            "\"image\": subpath must be a relative path within the volume",
        ),
    ] {
        let mount = parse(text, Path::new("/")).expect(text);
        let error_text = validate(&mount).expect_err(text).to_string();
        assert_eq!(error_text, format!("invalid mount config for type {error}"), "{text}");
    }
    let inside = parse("src=v,dst=/a,volume-subpath=x/../y", Path::new("/")).expect("parse");
    assert!(validate(&inside).is_ok());
}
