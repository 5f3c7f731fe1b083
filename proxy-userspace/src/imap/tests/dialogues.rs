//! Sessions as clients and servers speak: the spelling of each is kept, addresses and texts are not. A line ends in LF
//! here and in CRLF on the wire; the octets of literals are counted so.

/// Clients.
pub(super) const CLIENTS: &[(&str, &str)] = &[
    (
        "Thunderbird",
        r##"1 capability
2 authenticate PLAIN AGZyZWQAc2VjcmV0
3 ID ("name" "Thunderbird" "version" "128.5.0")
4 namespace
5 list (subscribed) "" "*" return (special-use)
6 list "" "INBOX"
7 select "INBOX" (CONDSTORE)
8 getquotaroot "INBOX"
9 UID fetch 1:* (FLAGS)
10 UID fetch 5:7 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])
11 UID fetch 7 (UID RFC822.SIZE BODY.PEEK[])
12 UID fetch 6 (UID RFC822.SIZE BODY.PEEK[]<0.65536>)
13 UID fetch 6 (UID RFC822.SIZE BODY.PEEK[]<65536.73728>)
14 uid store 7 +Flags (\Seen)
15 uid copy 7 "Archives/2026"
16 append "Sent" (\Seen) {43+}
Subject: hello
From: fred@example.org

x
17 append "Drafts" "16-Aug-2026 10:00:00 +0200" {4}
x
y
18 IDLE
DONE
19 uid fetch 1:* (FLAGS) (CHANGEDSINCE 12 VANISHED)
20 close
21 logout
"##,
    ),
    (
        "K-9",
        r##"1 CAPABILITY
2 AUTHENTICATE XOAUTH2 dXNlcj1mcmVk
3 ID ("name" "Thunderbird for Android")
4 ENABLE QRESYNC
5 LIST (SPECIAL-USE) "" "*"
6 SELECT "INBOX" (QRESYNC (1 24 1:100))
7 UID SEARCH 1:* NOT DELETED
8 UID FETCH 3,2,1 (INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (date subject from content-type to cc reply-to message-id references in-reply-to list-unsubscribe sender X-K9mail-Identity)] UID FLAGS)
9 UID FETCH 3,2,1 (UID BODY.PEEK[]<0.32768>)
10 UID FETCH 2 (BODYSTRUCTURE)
11 UID FETCH 2 (UID BODY.PEEK[1.1])
12 UID FETCH 2 (UID BODY.PEEK[2.MIME] BODY.PEEK[2])
13 UID STORE 2 +FLAGS.SILENT (\Seen)
14 APPEND "Sent" (\Seen) {6}
a

b
15 UID MOVE 2 "Trash"
16 UID EXPUNGE 2
17 NOOP
18 IDLE
DONE
"##,
    ),
    (
        "iOS",
        r##"1 ID ("name" "iPhone Mail" "version" "22A3354" "os" "iOS" "os-version" "18.0")
2 LOGIN fred@example.org "se cret"
3 XAPPLEPUSHSERVICE aps-version 2 aps-account-id 0715A26B-CA09-4730-A419-793000CA982E aps-device-token 2918390218931890821908309283098109381029309829018310983092892829 aps-subtopic com.apple.mobilemail mailboxes (INBOX Notes)
4 ENABLE CONDSTORE
5 LIST "" "*" RETURN (CHILDREN SPECIAL-USE STATUS (MESSAGES UNSEEN UIDNEXT))
6 SELECT INBOX
7 UID SEARCH RETURN (ALL) 1:* NOT DELETED
8 UID FETCH 1:50 (INTERNALDATE UID RFC822.SIZE FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (date subject from to cc message-id in-reply-to references content-type x-priority x-uniform-type-identifier x-universally-unique-identifier list-id list-unsubscribe bimi-indicator bimi-location x-bimi-indicator-hash authentication-results dkim-signature)])
9 UID FETCH 9 (BODYSTRUCTURE BODY.PEEK[HEADER])
10 UID FETCH 9 (UID BODY.PEEK[]<0.393216>)
11 UID FETCH 9 (UID BODY.PEEK[]<393216.393216>)
12 UID FETCH 9 (UID BODY.PEEK[2]<0.393216>)
13 UID STORE 9 (UNCHANGEDSINCE 320162338) +FLAGS (\Flagged)
14 STATUS Notes (HIGHESTMODSEQ UIDVALIDITY)
"##,
    ),
    (
        "mbsync",
        r##"1 CAPABILITY
2 LOGIN "fred" "se\"cret"
3 NAMESPACE
4 LIST "" "*"
5 SELECT "INBOX"
6 UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (X-TUID)])
7 UID FETCH 5 (BODY.PEEK[])
8 APPEND "Sent" (\Seen) {3}
x

9 LOGOUT
"##,
    ),
    (
        "mutt",
        r##"a0000 CAPABILITY
a0001 AUTHENTICATE CRAM-MD5
a0002 LIST "" ""
a0003 STATUS "INBOX" (UIDNEXT UIDVALIDITY UNSEEN RECENT)
a0004 UID FETCH 1:3 (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (DATE FROM SENDER SUBJECT TO CC MESSAGE-ID REFERENCES CONTENT-TYPE CONTENT-DESCRIPTION IN-REPLY-TO REPLY-TO LINES LIST-POST LIST-SUBSCRIBE LIST-UNSUBSCRIBE X-LABEL X-ORIGINAL-TO)])
a0005 UID SEARCH HEADER "X-Foo" "bar"
a0006 UID SORT (REVERSE ARRIVAL) UTF-8 ALL
a0007 UID THREAD REFERENCES UTF-8 SINCE 1-Jan-2026
a0008 STORE 1:3 -FLAGS.SILENT (\Seen old)
a0009 UID FETCH 3 BODY.PEEK[]
a0010 FETCH 1:* (RFC822.HEADER RFC822.TEXT)
a0011 FETCH 1 RFC822
a0012 FETCH 1,2 FAST
a0013 EXPUNGE
"##,
    ),
];

/// Servers.
pub(super) const SERVERS: &[(&str, &str)] = &[
    (
        "Dovecot",
        r##"* OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN] Dovecot (Debian) ready.
1 OK [CAPABILITY IMAP4rev1 SASL-IR ID ENABLE IDLE SORT THREAD=REFERENCES CONDSTORE QRESYNC ESEARCH PREVIEW=FUZZY] Logged in
* ID ("name" "Dovecot")
3 OK ID completed (0.001 + 0.000 secs).
* ENABLED QRESYNC
4 OK Enabled (0.001 + 0.000 secs).
* LIST (\HasNoChildren \UnMarked \Trash) "." Trash
* LIST (\Subscribed) "." "Entw&APw-rfe \"x\""
* LIST (\HasNoChildren) "." {4}
a"b\
* STATUS INBOX (MESSAGES 17 UNSEEN 16)
* NAMESPACE (("" ".")) NIL NIL
5 OK List completed (0.001 + 0.000 secs).
* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $MDNSent NonJunk)
* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $MDNSent NonJunk \*)] Flags permitted.
* 17 EXISTS
* 0 RECENT
* OK [UNSEEN 1] First unseen.
* OK [UIDVALIDITY 1785000000] UIDs valid
* OK [UIDNEXT 18] Predicted next UID
* OK [HIGHESTMODSEQ 42] Highest
* VANISHED (EARLIER) 3:5,8
6 OK [READ-WRITE] Select completed (0.001 + 0.000 + 0.001 secs).
* ESEARCH (TAG "7") UID ALL 1:17
* SEARCH 1 2 3 (MODSEQ 42)
* SORT 3 2 1
* THREAD (1)(2 3 (4)(5))
* 5 FETCH (UID 9 RFC822.SIZE 120 FLAGS (\Seen) MODSEQ (42) INTERNALDATE "16-Aug-2026 10:00:00 +0200" ENVELOPE ("Sun, 16 Aug 2026 10:00:00 +0200" "he said \"x\"" (("Fred" NIL "fred" "example.org")) (("Fred" NIL "fred" "example.org")) (("Fred" NIL "fred" "example.org")) NIL NIL NIL NIL "<a@example.org>"))
* 5 FETCH (UID 9 BODY[HEADER.FIELDS (SUBJECT FROM)] {42}
Subject: hello
From: fred@example.org

)
* 5 FETCH (UID 9 FLAGS (\Seen) BODY[]<0> {9}
a)
{3}
 BODY[02] "x\"y" BODY[1.MIME] NIL)
* 5 FETCH (UID 9 BODYSTRUCTURE (("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 1 NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 300 ("date" "x" NIL NIL NIL NIL NIL NIL NIL "<id>") ("text" "plain" NIL NIL NIL "7bit" 5 1 NIL NIL NIL NIL) 12 NIL ("attachment" ("filename" "a.eml")) NIL NIL) "mixed" ("boundary" "x") NIL NIL NIL))
8 OK Fetch completed (0.003 + 0.000 + 0.002 secs).
* 5 FETCH (BODY[]<0> NIL)
9 NO [EXPUNGEISSUED] Some messages were already expunged (0.001 + 0.000 secs).
* 5 EXPUNGE
* OK Still here
+ idling
10 OK Idle completed (10.001 + 10.000 + 10.000 secs).
DONE BAD Error in IMAP command received by server.
* QUOTAROOT INBOX "User quota"
* QUOTA "User quota" (STORAGE 10 512)
+ OK
11 OK [APPENDUID 1785000000 18] Append completed (0.001 + 0.000 secs).
12 OK [COPYUID 1785000000 1:2 3:4] Copy completed {3}
* BYE Logging out
13 OK Logout completed (0.001 + 0.000 secs).
"##,
    ),
    (
        "Cyrus",
        r##"* OK [CAPABILITY IMAP4rev1 LITERAL+ ID ENABLE STARTTLS AUTH=SCRAM-SHA-256 SASL-IR] server Cyrus IMAP 3.10.2-Debian server ready
2 OK [CAPABILITY IMAP4rev1 LITERAL+ ID ENABLE ACL ANNOTATE-EXPERIMENT-1 BINARY CATENATE REPLACE XLIST XMOVE MOVE SPECIAL-USE OBJECTID SAVEDATE WITHIN QUOTA RIGHTS=kxten] User logged in SESSIONID=<cyrus-1-1>
* LIST (\HasNoChildren) "/" INBOX
* LIST (\HasChildren \Subscribed) "/" Other (CHILDINFO (SUBSCRIBED))
* LSUB () "/" "INBOX"
* XLIST (\HasNoChildren \Sent) "/" "Sent Items"
* METADATA "INBOX" ("/private/comment" {3}
x
 "/shared/comment" NIL)
* ACL INBOX fred lrswipkxtecdan admin ""
* MYRIGHTS INBOX lrswipkxtecdan
* LISTRIGHTS INBOX fred "" l r s w
* COMPARATOR i;octet
* 3 EXISTS
* 1 RECENT
* FLAGS (\Answered \Flagged \Draft \Deleted \Seen OIB-Seen-[Gmail]/All)
* OK [PERMANENTFLAGS (\Answered \Flagged \Draft \Deleted \Seen OIB-Seen-[Gmail]/All \*)] Ok
* OK [MAILBOXID (4P5uIbGJyWcKFpZg)] Ok
* OK [URLMECH INTERNAL] Ok
* 1 FETCH (FLAGS (\Recent \Seen) UID 1 RFC822.SIZE 120 BODYSTRUCTURE ("TEXT" "PLAIN" ("CHARSET" "us-ascii") NIL NIL "7BIT" 5 1 NIL NIL NIL NIL) BODY[HEADER.FIELDS (SUBJECT from)] {2}

 BODY[2] NIL BODY[]<500> "")
* 1 FETCH (FLAGS (\Seen) UID 1 EMAILID (M0123) THREADID (T0123) SAVEDATE "16-Aug-2026 10:00:00 +0200" MODSEQ (3))
3 OK Completed (0.000 sec)
* NO No matching messages
4 OK Completed
* VANISHED 2
+ go ahead
5 NO [TRYCREATE] Mailbox does not exist
* BAD Invalid
* BYE LOGOUT received
"##,
    ),
    (
        "Courier",
        r##"* PREAUTH [CAPABILITY IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT QUOTA ACL ACL2=UNION] Courier-IMAP ready. See COPYING.
* CAPABILITY IMAP4rev1 UIDPLUS CHILDREN NAMESPACE IDLE
1 OK CAPABILITY completed
* NAMESPACE (("INBOX." ".")) NIL (("#shared." ".")("shared." "."))
* LIST (\Unmarked \HasChildren) "." "INBOX"
* FLAGS (\Draft \Answered \Flagged \Deleted \Seen \Recent)
* OK [PERMANENTFLAGS (\* \Draft \Answered \Flagged \Deleted \Seen)] Limited
* 2 EXISTS
* 0 RECENT
* OK [UIDVALIDITY 1785000000] Ok
* OK [MYRIGHTS "acdilrsw"] ACL
2 OK [READ-WRITE] Ok
* 1 FETCH (UID 1 BODY[HEADER.FIELDS ("SUBJECT" "from")] {2}

)
* 1 FETCH (RFC822.HEADER {2}

 RFC822.TEXT {3}
x
 RFC822 "")
* 1 FETCH (FLAGS (\Seen))
* 1 FETCH (BODY ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 1))
* SEARCH
* SEARCH 1 2
3 OK SEARCH done.
* NO Error in IMAP command
* BYE Courier-IMAP server shutting down
4 OK LOGOUT completed
"##,
    ),
    (
        "Exchange",
        r##"* OK The Microsoft Exchange IMAP4 service is ready. [QQBCAEMA]
* CAPABILITY IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+
1 OK CAPABILITY completed.
* LIST (\HasNoChildren \Marked) "/" INBOX
* LIST (\HasNoChildren) "/" {8}
a"b (c)x
* 2 EXISTS
* FLAGS (\Seen \Answered \Flagged \Deleted \Draft $MDNSent)
* OK [PERMANENTFLAGS (\Seen \Answered \Flagged \Deleted \Draft $MDNSent)] Permanent flags
* STATUS "Deleted Items" (MESSAGES 0 UNSEEN 0) 
* SEARCH 
* 1 FETCH (RFC822.SIZE 20000 UID 7 FLAGS (\Seen) BODYSTRUCTURE ("malformed" "plain" ("name" "a "b" c.txt") NIL NIL "7bit" 5 1))
* 1 FETCH (UID 7 BODYSTRUCTURE (("text" "plain" () NIL NIL "7bit" 5 1 NIL NIL NIL NIL)("message" "rfc822" ("name" "a.eml") NIL NIL "7bit" 9 NIL NIL NIL NIL) "mixed" ("boundary" "x") NIL NIL))
* 1 FETCH (BODY[] {0}
 UID 7)
2 OK FETCH completed.
3 NO [UNAVAILABLE] Server busy
* BYE Connection is closed. 13
"##,
    ),
    (
        "Gmail",
        r##"* OK Gimap ready for requests from 192.0.2.1 k20mb1
* CAPABILITY IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS COMPRESS=DEFLATE ENABLE MOVE CONDSTORE ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE APPENDLIMIT=35651584
1 OK fred@example.org authenticated (Success)
* LIST (\All \HasNoChildren) "/" "[Gmail]/All Mail"
* XLIST (\HasNoChildren \Inbox) "/" "Inbox"
* FLAGS (\Answered \Flagged \Draft \Deleted \Seen $NotPhishing $Phishing)
* OK [PERMANENTFLAGS (\Answered \Flagged \Draft \Deleted \Seen $NotPhishing $Phishing \*)] Flags permitted.
* 3 EXISTS
* OK [HIGHESTMODSEQ 2012]
2 OK [READ-WRITE] INBOX selected. (Success)
* 1 FETCH (X-GM-THRID 1278455344230334865 X-GM-MSGID 1278455344230334865 X-GM-LABELS ("\\Inbox" "\\Sent" Important "Muy Importante") UID 1 MODSEQ (2011) FLAGS (\Seen))
* 1 FETCH (UID 1 BODY[]<0> {5}
{1}
 BODYSTRUCTURE (("TEXT" "PLAIN" ("CHARSET" "UTF-8") NIL NIL "QUOTED-PRINTABLE" 5 1 NIL NIL NIL)("APPLICATION" "ZIP" ("NAME" "a.zip") "<f_1>" NIL "BASE64" 1368 NIL ("ATTACHMENT" ("FILENAME" "a.zip")) NIL) "MIXED" ("BOUNDARY" "x") NIL NIL))
3 OK Success
* ESEARCH (TAG "4") UID COUNT 5 ALL 1:3,7:8
* QUOTAROOT "INBOX" ""
* QUOTA "" (STORAGE 170 15728640)
* XAPPLEPUSHSERVICE "aps-version" "2" "aps-topic" "com.apple.mail.XServer.1"
* BYE LOGOUT Requested
5 OK 73 good day (Success)
"##,
    ),
];
