// Programs whose names say that they are something else.

private rule is_program
{
    condition:
        real_type == "windows_program" or real_type == "dos_program" or real_type == "elf" or real_type == "mach_o" or
        real_type == "java_class" or real_type == "dex" or real_type == "script" or real_type == "shortcut"
}

rule program_named_document
{
    meta:
        description = "A program whose name ends as that of a document, a picture, a sound or a page"
    condition:
        is_program and
        names matches /\.(pdf|docx?|docm|dotx?|rtf|odt|ods|odp|xlsx?|xlsm|xlsb|pptx?|pps|one|jpe?g|png|gif|bmp|webp|tiff?|heic|svg|html?|eml|csv|mp3|mp4|wav|avi|mov|ics|vcf)\n/
}

rule double_extension
{
    meta:
        description = "A name that shows the end of a document before the end of a program"
    condition:
        names matches /\.(pdf|docx?|docm|rtf|odt|xlsx?|xlsm|pptx?|jpe?g|png|gif|txt|html?|csv|mp3|mp4)[ ._\-]{0,200}\.(exe|scr|com|pif|bat|cmd|jse?|vbs|vbe|wsf|wsh|hta|lnk|ps1|cpl|msi|jar)\n/
}

rule turned_name
{
    meta:
        description = "A program's name that a sign for writing from right to left turns around"
    condition:
        names matches /(\xe2\x80\xae|\xe2\x80\xab|\xe2\x81\xa7)[^\n]{0,200}\.(exe|scr|com|pif|bat|cmd|jse?|vbs|vbe|wsf|wsh|hta|lnk|ps1|cpl|msi|jar)\n/
}
