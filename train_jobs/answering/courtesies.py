"""Thanks, greetings and "what can you do": messages that want a short reply and no search.

Whole messages only: "Thanks, and how do I undo it?" is a question. Common forms of several languages; what is not
recognised is searched like anything else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

THANKS, GREETING, FAREWELL, HELP = "thanks", "greeting", "farewell", "help"
MAX_CHARS = 120
_THANKS = (
    r"thanks?(?: a lot| so much| very much| again)?|thank you(?: so much| very much| a lot)?|many thanks|thx|ty"
    r"|cheers|(?:that )?(?:was |is |'s )?(?:very |really |so )?(?:helpful|great|perfect|awesome|excellent|nice)"
    r"|great|perfect|awesome|cool|nice|ok(?:ay)?|got it|that (?:helps|helped|worked|works)"
    r"|danke(?: schön| sehr| dir| ihnen)?|vielen dank|besten dank|merci(?: beaucoup)?|(?:muchas )?gracias"
    r"|(?:muito )?obrigad[oa]|(?:mille )?grazie|dank (?:je|u)(?: wel)?|bedankt|tack(?: så mycket)?|takk|tak|kiitos"
    r"|dzięki|dziękuję|спасибо|дякую|děkuji|ありがとう(?:ございます)?|谢谢|謝謝|감사합니다|شكرا|teşekkürler|köszönöm"
)
_GREETING = (
    r"hi(?: there)?|hello(?: there)?|hey(?: there)?|good (?:morning|afternoon|evening|day)|greetings|howdy"
    r"|how are you(?: doing)?(?: today)?|hallo|guten (?:morgen|tag|abend)|moin|servus|grüß gott|bonjour|salut"
    r"|bonsoir|hola|buen[oa]s (?:días|tardes|noches)|olá|oi|bom dia|ciao|buongiorno|buonasera|hoi|goedemorgen|hej"
    r"|hei|cześć|dzień dobry|привет|здравствуйте|こんにちは|你好|您好|안녕하세요|مرحبا|merhaba|szia"
)
_FAREWELL = (
    r"bye(?: bye)?|goodbye|see you(?: later| soon)?|tschüss|auf wiedersehen|au revoir|adiós|hasta luego|tchau"
    r"|arrivederci|doei|пока|再见|さようなら"
)
_HELP = (
    r"help(?: me)?|/help|i need help|what can you (?:do|help(?: me)? with|answer|tell me)(?: for me)?"
    r"|what can i ask(?: you)?|what do you (?:do|know|cover)"
    r"|what (?:do|does) (?:the|these|your) (?:docs|documents|documentation) cover|what are you(?: for)?"
    r"|who are you|how do you work"
    r"|what (?:topics|subjects|documents) (?:do you (?:cover|have|know)|are (?:covered|there|available))"
    r"|what can this do|hilfe|was kannst du|was kann ich (?:dich )?fragen|wer bist du|aide|que peux-tu faire"
    r"|qui es-tu|ayuda|qué puedes hacer|quién eres|aiuto|cosa puoi fare|ajuda|o que você pode fazer|hulp"
    r"|wat kun je"
)
_KINDS = (
    (HELP, _HELP),
    (GREETING, _GREETING),
    (THANKS, _THANKS),
    (FAREWELL, _FAREWELL),
)
# "OK?", "Perfect?" ask; "How are you?" and "Help?" are courtesies as they stand.
_ASKED = frozenset((THANKS, FAREWELL))
_WHOLE = tuple((kind, re.compile(words)) for kind, words in _KINDS)
_PIECE = re.compile(r"[,;.!?…\s]*[,;.!?…]\s*|\s+(?:and|und|et|y|e)\s+")
_ADDRESS = re.compile(r"^(?:oh|ah|ok(?:ay)?|well|so|please|plinth|everyone|all|you|team|friend|bitte)$")
REPLIES = {
    THANKS: "You are welcome.",
    GREETING: "Hello. Ask me something about the documents.",
    FAREWELL: "Goodbye.",
}


def courtesy_of(message: str) -> str:
    """Which courtesy a message is, from its first to its last word; empty where it is anything else."""
    if len(message) > MAX_CHARS:
        return ""
    text = re.sub(r"[\U0001F300-\U0001FAFF☀-➿️]", "", message).strip()
    asks = text.endswith("?")
    text = text.lstrip(" \t\r\n,;.!?…¡¿").rstrip(" \t\r\n,;.!?…:)-").lower().replace("’", "'")
    if re.search(r"[^\W\d_][.!?][^\W\d_]", text):
        return ""  # "ok.py" is a name
    found: list[str] = []
    for piece in filter(None, _PIECE.split(text)):
        kind = next((kind for kind, pattern in _WHOLE if pattern.fullmatch(piece.strip())), "")
        if kind:
            found.append(kind)
        elif not _ADDRESS.match(piece.strip()):
            return ""
    kind = next((kind for kind in (HELP, THANKS, FAREWELL, GREETING) if kind in found), "")
    return "" if asks and kind in _ASKED else kind


def help_text(topics: Sequence[str], questions: Sequence[str]) -> str:
    """What the documents cover, and what one could ask."""
    said = "I answer questions from the indexed documents, with citations, and say so where they hold no answer."
    if topics:
        said += f" They cover: {'; '.join(topics)}."
    if questions:
        said += "\n\nYou could ask:\n" + "\n".join(f"- {question}" for question in questions)
    return said
