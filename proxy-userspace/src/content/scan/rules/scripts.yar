// Scripts and shortcuts that fetch something and run it. Text that merely speaks of such scripts has no name that a
// double click would run.

private rule is_windows_script
{
    strings:
        $application = /<\s{0,8}hta:application\b/ ascii wide nocase
        $job = /<\s{0,8}job\b[^>]{0,200}>/ ascii wide nocase
        $script = /<\s{0,8}script\b/ ascii wide nocase
    condition:
        names matches /\.(jse?|vbs|vbe|wsf|wsh|wsc|sct|hta)\n/ or $application or $job and $script
}

rule script_dropper
{
    meta:
        description = "A script for Windows that fetches a file and runs it"
    strings:
        $fetch = /(MSXML2\.(Server)?XMLHTTP|Microsoft\.XMLHTTP|WinHttp\.WinHttpRequest|URLDownloadToFile|Msxml2\.ServerXMLHTTP)/ ascii wide nocase
        $fetch_by = /\b(bitsadmin|certutil|curl|powershell|pwsh|mshta)(\.exe)?\b/ ascii wide nocase
        $shell = "WScript.Shell" ascii wide nocase
        $application = "Shell.Application" ascii wide nocase
        $process = "Win32_Process" ascii wide nocase
        $save = "ADODB.Stream" ascii wide nocase
        $run = /(\.|\[\s{0,4}["'])(Run|Exec|ShellExecute|SaveToFile|Create)\b/ ascii wide nocase
    condition:
        is_windows_script and $run and
        (
            $fetch and ($shell or $application or $process or $save) or
            $fetch_by and ($shell or $application or $process)
        )
}

rule script_hidden
{
    meta:
        description = "A script for Windows that puts what it runs together from numbers"
    strings:
        $host = /\b(WScript\.|ActiveXObject|CreateObject|GetObject)/ ascii wide nocase
        $evaluate = /\b(eval|ExecuteGlobal|Execute)\s{0,4}[\( ]/ ascii wide nocase
        $number = /\b(ChrW?\s{0,4}\(|fromCharCode\s{0,4}\()/ ascii wide nocase
        $escape = /(\\x[0-9a-f]{2}){16}/ nocase
    condition:
        is_windows_script and $host and $evaluate and (#number > 20 or #escape > 4)
}

rule script_encoded
{
    meta:
        description = "A script that was encoded so that nobody reads it"
    strings:
        $begin = "#@~^"
    condition:
        $begin at 0 or is_windows_script and $begin
}

rule powershell_dropper
{
    meta:
        description = "A PowerShell script or a batch file that fetches code and runs it, out of sight"
    strings:
        $fetch_and_run = /\b(iex|invoke-expression)\b[^\n]{0,200}(downloadstring|downloaddata|downloadfile|net\.webclient|invoke-webrequest|invoke-restmethod|\biwr\b|\birm\b|\bcurl\b)/ ascii wide nocase
        $run_what_came = /(downloadstring|downloaddata|invoke-webrequest|invoke-restmethod|\biwr\b|\birm\b)[^\n]{0,300}\|\s{0,8}(iex|invoke-expression)\b/ ascii wide nocase
        $load = /\[(System\.)?Reflection\.Assembly\]::Load\s{0,4}\(/ ascii wide nocase
        $decode = "FromBase64String" ascii wide nocase
        $fetch = /(downloadstring|downloaddata|downloadfile|invoke-webrequest|start-bitstransfer|\biwr\s)/ ascii wide nocase
        $encoded = /powershell(\.exe)?\b[^\n]{0,200}\s[\-\/]e(nc|ncodedcommand|c)?\s{1,8}[a-z0-9+\/]{64}/ ascii wide nocase
        $hidden = /[\-\/]w(indowstyle|in|i)?\s{1,8}(hidden|h|1)\b/ ascii wide nocase
        $bypass = /[\-\/]e(xecutionpolicy|p|x)\s{1,8}(bypass|unrestricted)\b/ ascii wide nocase
        $certutil = /certutil(\.exe)?\b[^\n]{0,80}[\-\/]urlcache\b/ ascii wide nocase
        $bitsadmin = /bitsadmin(\.exe)?\b[^\n]{0,80}\/transfer\b/ ascii wide nocase
        $mshta = /mshta(\.exe)?\s{1,8}["']?(https?:|javascript:|vbscript:)/ ascii wide nocase
        $start = /\b(start|call|cmd|rundll32|regsvr32|msiexec)(\.exe)?\b/ ascii wide nocase
    condition:
        names matches /\.(ps1|psm1|bat|cmd|com)\n/ and
        (
            $fetch_and_run or $run_what_came or $encoded or $mshta or
            $load and ($decode or $fetch) or
            $fetch and $hidden and $bypass or
            ($certutil or $bitsadmin) and $start
        )
}

rule shortcut_dropper
{
    meta:
        description = "A shortcut that starts an interpreter with a command of its own"
    strings:
        $interpreter = /\b(powershell|pwsh|mshta|wscript|cscript|rundll32|regsvr32|certutil|bitsadmin|msiexec|forfiles|conhost|curl)\b/ ascii wide nocase
        $shell = /\bcmd(\.exe)?\b/ ascii wide nocase
        $command = /\/[ckr](\s|"|\^|p)/ ascii wide nocase
        $address = /(https?:\/\/|\\\\[0-9a-z.\-]{4,64}@(ssl|[0-9]{2,5})|javascript:|vbscript:)/ ascii wide nocase
        $hidden = /[\-\/]w(indowstyle|in|i)?\s{1,8}(hidden|h|1)\b/ ascii wide nocase
        $encoded = /\s[\-\/]e(nc|ncodedcommand|c)?\s{1,8}[a-z0-9+\/]{32}/ ascii wide nocase
        $code = /(\biex\b|invoke-|downloadstring|frombase64string|-executionpolicy|-ep\s|-nop\b)/ ascii wide nocase
    condition:
        uint32(0) == 0x0000004C and uint32(4) == 0x00021401 and
        (
            $interpreter and ($address or $hidden or $encoded or $code) or
            $shell and $command and ($interpreter or $address)
        )
}
