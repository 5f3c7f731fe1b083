use super::*;
use crate::content::samples::{base64, base64_lines};

fn page(body: &str) -> Vec<u8> {
    format!("<!DOCTYPE html><html><body>{body}</body></html>").into_bytes()
}

#[test]
fn a_file_in_a_url_is_a_member_however_it_is_written() {
    let program = program();
    let encoded = base64(&program);
    let percent = program.iter().map(|octet| format!("%{octet:02x}")).collect::<String>();
    let escaped = encoded.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
    let folded = base64_lines(&program);
    for body in [
        format!("<a href=\"data:application/octet-stream;base64,{encoded}\">"),
        format!("<a href='DATA:;BASE64,{encoded}'>"),
        format!("<a href=data:x/y;charset=z;base64,{encoded}>"),
        format!("<a href=\"data:x/y,{percent}\">"),
        format!("<a href=\"data:x/y;base64,{escaped}\">"),
        format!("<a href=\"data:x/y;base64,{folded}\">"),
        format!("<a href=\"d&#97;ta&colon;x/y;b&#x61;se64&comma;{encoded}\">"),
        format!("<a href=\"da&Tab;ta:x/y;base&NewLine;64,{encoded}\">"),
        format!("<a href=\" d\na\r\nta\t:{}x/y;base64,{folded}\">", "\t".repeat(600)),
        format!("<a href=\"data:x/y,{}\">", percent.replace("%4d", "%\t4d")),
        format!("<style>a{{background:url(data:x/y;base64,{encoded})}}</style>"),
    ] {
        assert!(looked(&page(&body)).has("data-1", &program), "{}", &body[..60]);
    }
}

#[test]
fn a_page_in_utf16_is_read() {
    let program = program();
    let text = format!("<html><a href=\"data:;base64,{}\">", base64(&program));
    let little = [vec![0xff, 0xfe], utf16(&text)].concat();
    assert!(looked(&little).has("data-1", &program));
    assert!(looked(&utf16(&text)).has("data-1", &program), "without a mark");
    let big = [vec![0xfe, 0xff], text.encode_utf16().flat_map(u16::to_be_bytes).collect()].concat();
    assert!(looked(&big).has("data-1", &program));
}

#[test]
fn a_file_in_strings_of_a_script_is_a_member() {
    let program = program();
    let encoded = base64(&program);
    let pieces =
        encoded.as_bytes().chunks(40).map(|piece| std::str::from_utf8(piece).unwrap()).collect::<Vec<_>>();
    let numbers = program.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let hexadecimal = program.iter().map(|octet| format!("0x{octet:02X}")).collect::<Vec<_>>().join(",");
    let escapes = program.iter().map(|octet| format!("\\x{octet:02x}")).collect::<String>();
    let twice = base64(base64(&program).as_bytes());
    for script in [
        format!("var a = '{encoded}';"),
        format!("var a = \"{}\";", pieces.join("\" + \"")),
        format!("var a = \"{}\";", pieces.join("\"+\n  \"")),
        format!("var a = ['{}'].join('');", pieces.join("','")),
        format!("var a = \"{}\";", pieces.join("\\\n")),
        format!("var a = '{}';", encoded.replace('+', "-").replace('/', "_")),
        format!("new Uint8Array([{numbers}])"),
        format!("new Uint8Array([{hexadecimal}])"),
        format!("var a = '{escapes}'"),
        format!("eval(atob('{twice}'))"),
    ] {
        let found = looked(&page(&format!("<script>{script}</script>")));
        let has = found.members.iter().any(|(_, member)| member.starts_with(&program));
        assert!(has, "{}", &script[..60]);
    }
}

const SMUGGLER: &str =
    "var b = atob(d); var f = new Blob([b]); a.href = window.URL.createObjectURL(f); a.click();";

#[test]
fn a_script_that_builds_a_file_is_smuggling_however_it_is_written() {
    let all_escaped = SMUGGLER.replace("Blob", "\\u0042lob").replace("atob", "\\x61tob");
    let split = SMUGGLER.replace("URL.createObjectURL", "URL[\"create\" + 'Object'\n+ `URL`]");
    let old = "var b = new Uint8Array(n); navigator.msSaveOrOpenBlob(new Blob([b]), 'a.zip')";
    let hidden = format!("eval(atob('{}'))", base64(format!("{SMUGGLER}{}", " ".repeat(200)).as_bytes()));
    let built = |array: &str| SMUGGLER.replace("atob(d)", array);
    let arrays = [
        "new Int8Array(n)",
        "new Uint8ClampedArray(n)",
        "new Uint16Array(n)",
        "new Int32Array(n)",
        "new DataView(n)",
        "new TextEncoder().encode(n)",
    ]
    .map(built);
    let links = [
        "a.href='data:application/octet-stream;base64,'+btoa(x);a.download='x.exe';a.click()",
        "a.href='da'+'ta:;base64,'+x;a['download']='x.exe';a['click']()",
        "a.href='data:text/html,'+x;a.setAttribute('download','x');a.dispatchEvent(e)",
    ];
    let arrays = arrays.iter().map(String::as_str);
    for script in [SMUGGLER, &all_escaped, &split, old, &hidden].into_iter().chain(arrays).chain(links) {
        let found = looked(&page(&format!("<script>{script}</script>")));
        assert_eq!(found.conditions(), [Condition::Smuggling], "{script}");
    }
    for tag in [
        "img src=x onerror=\"",
        "body onpageshow=\"",
        "details open ontoggle =\n\"",
        "svg><animate/onbegin=\"",
        "p title='>' onwheel=\"",
        "p =\"> <b onclick=\"",
        "a href=\"java&Tab;script:",
        "meta http-equiv=refresh content=\"0;data:text/html,",
        "iframe srcdoc=\"&lt;script&gt;",
    ] {
        let in_attribute = page(&format!("<{tag}{SMUGGLER}\">"));
        assert_eq!(looked(&in_attribute).conditions(), [Condition::Smuggling], "{tag}");
    }
    let drawing = format!("<svg xmlns=\"http://www.w3.org/2000/svg\"><script>{SMUGGLER}</script></svg>");
    assert_eq!(looked(drawing.as_bytes()).conditions(), [Condition::Smuggling]);
    let zeros =
        page(&format!("<script>{SMUGGLER}</script>")).iter().flat_map(|o| [*o, 0]).collect::<Vec<_>>();
    let zeros = [b"\x01\x02".as_slice(), &zeros].concat();
    assert_eq!(looked(&zeros).conditions(), [Condition::Smuggling], "zeros");
}

#[test]
fn a_link_that_saves_what_stands_in_the_page_is_smuggling() {
    for link in [
        "<a href=\"data:application/zip;base64,YQ==\" download=\"a.zip\">",
        "<A DOWNLOAD HREF=' data:text/html,x'>",
        "<a href=\"d&#x61;ta:application/zip,x\" download>",
        "<a href=\"da&Tab;ta:application/zip,x\" download>",
        "<a href=\"d\na\tt\ra:application/zip,x\" download>",
        "<area href=\"data:application/zip,x\" download>",
        "<iframe srcdoc=\"&lt;a href='data:application/zip,x' download&gt;\">",
    ] {
        assert_eq!(looked(&page(link)).conditions(), [Condition::Smuggling], "{link}");
    }
    for link in [
        "<a href=\"https://example.org/a.zip\" download>",
        "<a download href=\"data:image/png;base64,aGk=\">",
    ] {
        assert!(looked(&page(link)).conditions().is_empty(), "{link}");
    }
}

#[test]
fn an_honest_newsletter_gives_no_condition() {
    let picture = base64(&[b"\x89PNG\r\n\x1a\n".as_slice(), &[7; 600]].concat());
    let body = format!(
        "<style>a{{color:#336699}}</style><img src=\"data:image/png;base64,{picture}\"><p>Download the Blob Uint8Array \
         book: createObjectURL, atob and you.</p><a href=\"https://example.org/\">more</a>"
    );
    let found = looked(&page(&body));
    assert!(found.conditions().is_empty());
    assert_eq!(found.members.len(), 1, "the picture alone");
}

#[test]
fn a_page_that_shows_a_script_or_a_link_runs_none() {
    for shown in [
        format!("<pre>&lt;script&gt;{SMUGGLER}&lt;/script&gt; &lt;p onclick=x&gt;</pre>"),
        "<pre>&lt;a href=\"data:application/zip,x\" download&gt;</pre>".to_owned(),
    ] {
        assert!(looked(&page(&shown)).conditions().is_empty(), "{shown}");
    }
}

#[test]
fn plain_text_that_holds_a_script_runs_none_and_gives_its_files() {
    let words = "words of a text without tags\n".repeat(100);
    let program = program();
    let found = looked(format!("{words}+<script>{SMUGGLER} '{}'</script>", base64(&program)).as_bytes());
    assert!(found.conditions().is_empty());
    assert!(found.has("string-1", &program));
}

#[test]
fn a_text_about_scripts_gives_nothing() {
    let found = looked(format!("Hello,\n\nyou wrote:\n> {SMUGGLER}\n\nBye").as_bytes());
    assert!(found.conditions().is_empty());
    assert!(found.members.is_empty());
}
