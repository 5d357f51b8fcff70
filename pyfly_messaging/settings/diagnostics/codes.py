"""The table of diagnostic codes: what each means, why it comes, what to do. They never change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyfly_messaging.settings.diagnostics.diagnostic import Severity


@dataclass(frozen=True, slots=True)
class Code:
    """What one code stands for.

    Attributes:
        title: The problem in a few words.
        cause: How it comes about.
        cure: What to do; also the help of a diagnostic that has nothing better to say.
        severity: Of the diagnostics with this code.

    """

    title: str
    cause: str
    cure: str
    severity: Severity = "error"


FILE_CODES = {
    "CFG001": Code(
        "not YAML",
        "The text cannot be read as YAML at this place.",
        "compare this line and the one above with the reference configuration",
    ),
    "CFG002": Code(
        "tab",
        "YAML does not take tabs for indentation, nor between a key and its value.",
        "replace the tab with spaces",
    ),
    "CFG003": Code(
        "quote not closed",
        "A quoted text begins here and does not end where it should.",
        "close the quote on the same line; a quote inside the text is written twice ('it''s')"
        ' or escaped ("say \\"hi\\"")',
    ),
    "CFG004": Code(
        "bracket not closed",
        "A list [...] or a mapping {...} is not closed, or its items have no comma in between.",
        "close the bracket, and separate its items with commas",
    ),
    "CFG005": Code(
        "text needs quotes",
        "The value begins with a character that means something in YAML: * & ! @ ` % | > { [.",
        'put the value in quotes: "..."',
    ),
    "CFG006": Code(
        "colon or space missing",
        "A key and its value are separated by a colon and a space.",
        "write key: value, with a space after the colon",
    ),
    "CFG007": Code(
        "wrong indentation",
        "The line is indented differently from the ones it belongs to.",
        "indent the keys of one section by the same number of spaces",
    ),
    "CFG008": Code(
        "look-alike character",
        "A typographic quote, a non-breaking space or an invisible character, as text processors "
        "and web pages put them. YAML takes it for a part of the text.",
        "type the plain character; if it is meant, put the whole value in straight quotes",
    ),
    "CFG009": Code(
        "tag",
        "The value has a YAML tag such as !env or !!python/object. Values here are plain data.",
        "remove the tag; for an environment variable write ${NAME}",
    ),
    "CFG010": Code(
        "control character",
        "The file has a control character that YAML does not allow.",
        "delete the character",
    ),
    "CFG011": Code(
        "several documents",
        "The file has a second document after '---'. Only one could be read.",
        "keep one document; put what belongs to a profile into pyfly-{profile}.yaml",
    ),
    "CFG012": Code(
        "duplicate key",
        "The same key stands twice in one section, so one of the values would be lost.",
        "keep one of the two",
    ),
    "CFG013": Code(
        "key in two spellings",
        "The key is given in kebab-case and in snake_case; both mean the same setting.",
        "keep one of the two, best the one with hyphens",
    ),
    "CFG014": Code(
        "not a mapping",
        "The file as a whole must be a mapping that begins with 'pyfly:'.",
        "begin the file with 'pyfly:' and indent 'messaging:' below it",
    ),
    "CFG015": Code(
        "not UTF-8",
        "The file is in another encoding than UTF-8.",
        "save the file as UTF-8",
    ),
    "CFG016": Code(
        "too deep or too many",
        "A file or an argument is nested deeper than 100 levels, has too many keys and values, "
        "refers to itself, or its aliases multiply.",
        "write the values out, without aliases",
    ),
    "CFG017": Code(
        "too large",
        "The file is larger than 1 MB, or a secret file larger than 64 KB.",
        "check that this is the right file",
    ),
    "CFG018": Code(
        "file not found",
        "The file that was asked for does not exist.",
        "check the path; relative paths begin at the working directory",
    ),
    "CFG019": Code(
        "file not readable",
        "The path is a directory, a named pipe, a device, a socket or a symbolic link that leads "
        "nowhere, or its permissions forbid to read it.",
        "name a file that this user can read, and repair or remove a link that leads nowhere",
    ),
    "CFG020": Code(
        "placeholder not set",
        "A ${NAME} has neither a value in the environment nor a default.",
        "set the variable, or write a default: ${NAME:default}",
    ),
    "CFG021": Code(
        "placeholder malformed",
        "A ${...} is not closed, or what it holds is neither NAME, NAME:default nor file:PATH.",
        "write ${NAME} or ${NAME:default}; for the two characters themselves write $${",
    ),
    "CFG022": Code(
        "secret file not readable",
        "The file of a ${file:...} cannot be read.",
        "check the path and its permissions",
    ),
    "CFG023": Code(
        "unknown profile",
        "An active profile has no file of its own, and its name is nearly that of one that has.",
        "correct the name in PYFLY_PROFILES_ACTIVE",
    ),
    "CFG024": Code(
        "file not used",
        "A file that looks like configuration is not read: it has another name or place.",
        "rename it, or name it in PYFLY_CONFIG",
        "warning",
    ),
    "CFG025": Code(
        "section at the wrong place",
        "The settings must stand below 'pyfly:' and 'messaging:'; as they are, nobody reads them.",
        "indent the section below 'pyfly:' and 'messaging:'",
    ),
    "CFG026": Code(
        "not a path",
        "The path of a local file belongs here, and a URL or the content of a file was given. It "
        "is not quoted: it may be a secret.",
        "write the content to a file that only this user can read, and give its path",
    ),
}

VALUE_CODES = {
    "CFG100": Code(
        "invalid value",
        "The value is not one that the setting takes.",
        "ask `pyfly-messaging config explain` about the setting",
    ),
    "CFG101": Code(
        "unknown key",
        "No setting of this name exists in this section.",
        "ask `pyfly-messaging config explain` what the section takes",
    ),
    "CFG102": Code(
        "not one of the choices",
        "The setting takes one of a few words, and this is none of them.",
        "use one of the choices, in exactly this spelling",
    ),
    "CFG103": Code(
        "wrong type",
        "The value is of another type: text for a number, a list for text, a word for a boolean.",
        "write a value of the expected type",
    ),
    "CFG104": Code(
        "out of range", "The value is too small or too large.", "use a value in the range"
    ),
    "CFG105": Code(
        "not a duration",
        "A duration is a number of seconds, or a number with a unit.",
        "write seconds, or use ms, s, m or h: 500ms, 10s, 5m, 1h",
    ),
    "CFG106": Code(
        "not an address",
        "A server, a host, a port or a URL has a wrong form.",
        "write host:port for Kafka, amqp://user:password@host:port/virtual-host for RabbitMQ",
    ),
    "CFG107": Code(
        "not a topic",
        "A topic has 1 to 249 ASCII letters, digits, dots, underscores and hyphens.",
        "use only letters, digits, '.', '_' and '-'",
    ),
    "CFG108": Code(
        "no value",
        "The key has no value, or an empty one.",
        "give it a value, or remove the key to use the default",
    ),
    "CFG109": Code(
        "key at the wrong level",
        "The setting exists, but in another section.",
        "move it to the section it belongs to",
    ),
    "CFG110": Code(
        "section expected",
        "The key is a section with keys of its own, and was given a single value or a list.",
        "write its keys below it, indented",
    ),
    "CFG111": Code(
        "unknown exception",
        "The name is not a built-in exception; others need their module in front.",
        "write the name as ValueError or shop.errors.InvalidOrder",
    ),
    "CFG112": Code("setting missing", "A setting without a default is not given.", "set it"),
    "CFG115": Code(
        "not a size",
        "A size is a number of bytes, or a number with a unit.",
        "write bytes, or use KiB, MiB or GiB: 512KiB, 64MiB, 1GiB",
    ),
    "CFG120": Code(
        "deprecated",
        "The setting still works and will be removed.",
        "use the replacement",
        "warning",
    ),
    "CFG121": Code("removed", "The setting has been removed.", "use the replacement"),
}

ACROSS_CODES = {
    "CFG201": Code(
        "client library missing",
        "The provider needs a package that is not installed.",
        "install the extra of pyfly-messaging that brings it",
    ),
    "CFG202": Code(
        "two forms of the address",
        "rabbitmq.url is set together with host, port, username, password or virtual-host.",
        "use either the URL or the single settings; `url: null` takes back an inherited URL",
    ),
    "CFG203": Code(
        "SASL without credentials",
        "A SASL mechanism is set, but not both of username and password.",
        "set kafka.sasl.username and kafka.sasl.password",
    ),
    "CFG204": Code(
        "credentials without SASL",
        "A user name or a password for Kafka is set, but no mechanism, so they would not be sent.",
        "set kafka.sasl.mechanism",
    ),
    "CFG205": Code(
        "certificate without key",
        "Mutual TLS needs cert-file and key-file together.",
        "set both, or neither",
    ),
    "CFG206": Code(
        "acks without idempotence",
        "An idempotent producer needs acks: all.",
        "use acks: all, or set idempotence: false",
    ),
    "CFG207": Code(
        "TLS is off",
        "Settings of TLS are given while the connection is not encrypted.",
        "set tls.enabled: true, or remove them",
    ),
    "CFG208": Code(
        "TLS on and off",
        "The URL says amqps://, and tls.enabled says false.",
        "use amqp://, or remove tls.enabled",
    ),
    "CFG209": Code(
        "TLS file not readable",
        "A file of certificates or a key does not exist, cannot be read, or is no regular file.",
        "check the path and its permissions",
    ),
    "CFG210": Code(
        "TLS file not valid",
        "A file is not PEM, the key does not belong to the certificate, or its password is wrong.",
        "check that the files belong together",
    ),
    "CFG211": Code(
        "broker configured, but not used",
        "A broker is configured while the provider is memory: no message will reach it.",
        "set provider to the broker, or remove its section",
        "warning",
    ),
    "CFG212": Code(
        "provider chosen",
        "The provider is auto; this says which one was chosen, and why.",
        "set provider to be independent of what is installed",
        "info",
    ),
    "CFG213": Code(
        "unknown listener",
        "A name below listeners: is not the name of any listener in the program.",
        "use the name of a listener; by default it is its qualified name in kebab-case",
    ),
    "CFG214": Code(
        "dead letters return",
        "The dead-letter topic is the topic itself, so spent messages would come back for ever.",
        "choose another dead-letter-topic",
    ),
    "CFG215": Code(
        "delays out of order",
        "The first pause before a retry is longer than the longest one allowed.",
        "raise retry-max-delay, or lower retry-delay",
        "warning",
    ),
    "CFG216": Code(
        "certificate not checked",
        "With verify: false anyone in between can read and change messages.",
        "set verify: true, and ca-file for an authority of your own",
        "warning",
    ),
    "CFG217": Code(
        "unknown option",
        "A key below kafka.options or rabbitmq.options is no argument of the client library.",
        "use the name of an argument of the client, with hyphens or underscores",
    ),
    "CFG218": Code(
        "adapter not usable",
        "An adapter that another distribution installs cannot be imported, is no AdapterPlugin, "
        "builds no broker, fails in conflicts() of its settings, or has a name that is taken or "
        "is none. Unless the configuration asks for it, a wrong name is only a warning.",
        "repair or uninstall the distribution",
    ),
}

GUARDRAIL_CODES = {
    "CFG301": Code(
        "memory in production",
        "With the profile production, messages would not outlive the process.",
        "set provider to kafka or rabbitmq, or allow it: guardrails.allow-memory: true",
    ),
    "CFG302": Code(
        "guest in production",
        "With the profile production, RabbitMQ would be used with the password everybody knows.",
        "set a user of its own, or allow it: guardrails.allow-guest: true",
    ),
    "CFG303": Code(
        "no encryption in production",
        "With the profile production, messages would cross the network in plain text.",
        "set tls.enabled: true, or allow it: guardrails.allow-unencrypted: true",
    ),
    "CFG304": Code(
        "certificate not checked in production",
        "With the profile production, the certificate of another machine would not be checked.",
        "set tls.verify: true, or allow it: guardrails.allow-unverified: true",
    ),
}

ENVIRONMENT_CODES = {
    "ENV001": Code(
        "unknown variable",
        "The variable begins with PYFLY_MESSAGING__ and reaches no setting.",
        "correct its name, or unset it",
    ),
    "ENV002": Code(
        "variable nearly named right",
        "The variable looks as if it were meant for this library, and nobody reads it.",
        "correct its name if it was",
        "warning",
    ),
    "ENV003": Code(
        "variable in two casings",
        "Two variables differ only in upper and lower case and mean the same setting.",
        "keep the one in upper case",
    ),
    "ENV004": Code(
        "variable is empty",
        "The variable is set, but to nothing.",
        "give it a value, or unset it to use the default",
    ),
    "ENV005": Code(
        "variable names a section",
        "The variable names a section, and its value is no JSON object.",
        "set the variables of the single settings below the section",
    ),
    "ENV006": Code(
        "broken JSON",
        "The value begins like JSON and is none.",
        'write a,b or ["a", "b"] for a list, {"key": "value"} for a section',
    ),
    "ENV007": Code(
        ".env not readable",
        "A line of .env is no NAME=value, or the file cannot be read.",
        "write NAME=value; quote values with spaces or #",
    ),
    "ENV008": Code(
        "secrets directory",
        "PYFLY_SECRETS_DIR names no directory, or a file in it cannot be read.",
        "name a directory whose files are named as the variables",
    ),
}

CODES: dict[str, Code] = (
    FILE_CODES | VALUE_CODES | ACROSS_CODES | GUARDRAIL_CODES | ENVIRONMENT_CODES
)

_SECTIONS = (
    ("Files and YAML", FILE_CODES),
    ("Keys and values", VALUE_CODES),
    ("Across settings", ACROSS_CODES),
    ("Guardrails of the profile production", GUARDRAIL_CODES),
    ("Environment", ENVIRONMENT_CODES),
)


def render_codes() -> str:
    """Return the table of codes as Markdown: the content of ``docs/configuration-errors.md``."""
    return "\n".join(_markdown()) + "\n"


def _markdown() -> Iterator[str]:
    yield "# Configuration errors"
    yield ""
    yield "Every problem in a configuration has a code that never changes. Errors refuse the"
    yield "configuration before anything is connected; warnings and notes are logged."
    yield ""
    yield "<!-- generated from settings/diagnostics/codes.py; a test holds it equal -->"
    for title, codes in _SECTIONS:
        yield ""
        yield f"## {title}"
        for code, entry in codes.items():
            mark = "" if entry.severity == "error" else f" ({entry.severity})"
            yield ""
            yield f"### {code}: {entry.title}{mark}"
            yield ""
            yield entry.cause
            yield ""
            yield f"What to do: {entry.cure}."
