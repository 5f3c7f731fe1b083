// Pages that build a file in the reader's browser.

rule html_smuggling
{
    meta:
        description = "A page that holds a program or an archive as text, makes a file of it and has it saved"
    strings:
        $page = /<\s{0,8}(script|html|svg|body)\b/ ascii wide nocase
        $base64 = /["'`](TVqQ|TVpQ|TVro|UEsDB|N3q8r|UmFyIR|TVNDRg|0M8R4KGx|5FJce4|TAAAAAEUAg|H4sI)[A-Za-z0-9+\/]{32}/ ascii wide
        $numbers = /\[\s{0,8}(77\s{0,4},\s{0,4}90|80\s{0,4},\s{0,4}75\s{0,4},\s{0,4}3\s{0,4},\s{0,4}4|0x4d\s{0,4},\s{0,4}0x5a|0x50\s{0,4},\s{0,4}0x4b)\s{0,4},/ ascii wide nocase
        $decode = /(\batob\b|Uint8Array|charCodeAt|fromCharCode)/ ascii wide
        $blob = /\b(Blob|File)\s{0,8}\(/ ascii wide
        $address = "createObjectURL" ascii wide
        $save = /msSave(OrOpen)?Blob/ ascii wide
        $name = /(\.|["'`]|\s)download\b/ ascii wide nocase
        $click = /\.(click|dispatchEvent)\s{0,8}\(/ ascii wide
    condition:
        $page and $decode and ($base64 or $numbers) and ($save or $blob and $address and ($name or $click))
}
