// Documents that run something when they are opened.

rule macro_dropper
{
    meta:
        description = "Macros that run when the document is opened or closed, and start or fetch a program"
    strings:
        $run_open = /(auto_?(open|exec|close|exit)|document_?(open|close|beforeclose)|workbook_?(open|activate|beforeclose)|presentation_?open)\b/ ascii wide nocase
        $module = "Attribute VB_Name" ascii nocase
        $compressed = "Attribut\x00e VB_"
        $download = "URLDownloadToFile" ascii wide nocase
        $inject_room = /Virtual(Alloc|Protect)(Ex)?\b/ ascii nocase
        $inject_move = /(RtlMoveMemory|WriteProcessMemory|CreateThread|CreateRemoteThread|EnumWindows)\b/ ascii nocase
        $shell = /\bShell(Execute)?\s{0,4}[\("]/ ascii nocase
        $shell_object = "WScript.Shell" ascii wide nocase
        $shell_application = "Shell.Application" ascii wide nocase
        $process = "Win32_Process" ascii wide nocase
        $fetch = /(MSXML2\.(Server)?XMLHTTP|Microsoft\.XMLHTTP|WinHttp\.WinHttpRequest)/ ascii wide nocase
        $save = "ADODB.Stream" ascii wide nocase
        $interpreter = /\b(powershell|pwsh|mshta|certutil|bitsadmin|regsvr32|rundll32|wscript|cscript)\b/ ascii wide nocase
        $command = /\bcmd(\.exe)?\s{1,4}\/[ck]\b/ ascii wide nocase
        $run = /\.(Run|Exec|ShellExecute|Create)\b/ ascii nocase
    condition:
        (
            is_member and names matches /\.(vba|bas|cls|frm)\n/ or
            uint32(0) == 0xE011CFD0 and ($module or $compressed) or
            names matches /\.bin\n/ and ($module or $compressed)
        ) and $run_open and
        (
            $download or
            $inject_room and $inject_move or
            ($shell or $shell_object or $shell_application or $process) and ($interpreter or $command) or
            $fetch and ($save or $run) or
            $shell_object and $run and ($fetch or $save)
        )
}

rule dde_command
{
    meta:
        description = "A field or a cell that starts an interpreter when the document is opened"
    strings:
        $field = /\bDDE(AUTO)?\b[^<>\n]{1,128}\b(cmd|powershell|mshta|wscript|cscript|rundll32)\b/ nocase
        $cell = /[=+@\-]\s{0,8}(cmd|powershell|mshta|wscript|cscript|rundll32)(\.exe)?\s{0,4}\|\s{0,4}'/ nocase
    condition:
        names matches /\.(csv|slk|iqy|rtf|xml|docx?|docm|xlsx?|xlsm)\n/ and any of them
}

rule rtf_equation_editor
{
    meta:
        description = "An RTF document with an object of the Equation Editor, which runs what the object holds"
    strings:
        $class = /\\objclass\s{1,16}equation\.[23]/ nocase
        $name = /4\s{0,4}5\s{0,4}7\s{0,4}1\s{0,4}7\s{0,4}5\s{0,4}6\s{0,4}1\s{0,4}7\s{0,4}4\s{0,4}6\s{0,4}9\s{0,4}6\s{0,4}f\s{0,4}6\s{0,4}e\s{0,4}2\s{0,4}e\s{0,4}3/ nocase
        $identifier = /0\s{0,4}2\s{0,4}c\s{0,4}e\s{0,4}0\s{0,4}2(\s{0,4}0){10}\s{0,4}c\s{0,4}0(\s{0,4}0){12}\s{0,4}4\s{0,4}6/ nocase
    condition:
        uint32(0) == 0x74725C7B and any of them
}

rule pdf_launch
{
    meta:
        description = "A PDF that starts a program, or saves an embedded file and starts it"
    strings:
        $begin = "%PDF-"
        $launch = /\/S\s{0,8}\/Launch\b/
        $program = /(cmd|powershell|mshta|wscript|cscript|rundll32|regsvr32)(\.exe)?\b/ nocase
        $file = /\.(exe|scr|com|pif|bat|cmd|jse?|vbs|vbe|wsf|hta|lnk|ps1|msi)\s{0,4}\)/ nocase
        $export = "exportDataObject" nocase
        $opens = /nLaunch\s{0,4}:\s{0,4}[12]/ nocase
    condition:
        $begin in (0..1024) and ($launch and ($program or $file) or $export and $opens)
}

rule onenote_dropper
{
    meta:
        description = "A OneNote section with an embedded program or script"
    strings:
        $file = { E7 16 E3 BD 65 26 11 45 A4 C4 8D 4D 0B 7A 9E AC }
        $script = /<\s{0,8}(script|job|package|hta:application)\b/ ascii wide nocase
        $batch = /(@echo\s{1,8}off|powershell(\.exe)?\s|cmd(\.exe)?\s{1,4}\/c|CreateObject\s{0,4}\(|WScript\.)/ ascii wide nocase
    condition:
        uint32be(0) == 0xE4525C7B and uint32be(4) == 0x8CD8A74D and
        for any i in (1..#file): (
            uint16(@file[i] + 36) == 0x5A4D or
            uint32(@file[i] + 36) == 0x0000004C and uint32(@file[i] + 40) == 0x00021401 or
            uint32be(@file[i] + 36) == 0x49545346 or
            $script in (@file[i] + 36 .. @file[i] + 4132) or
            $batch in (@file[i] + 36 .. @file[i] + 4132)
        )
}
