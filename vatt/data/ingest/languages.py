"""Languages of captions: codes in names of files ("talk.pt-BR.vtt") and in media files ("por").

    code("pt-BR")  ->  "pt"        code("ger")  ->  "de"        code("cut")  ->  ""

Codes are those of ISO 639: two letters where there are two, else three.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Two letters and, behind them, the three of the same language, for some of them two kinds.
_CODES = (
    "aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak "
    "be:bel bg:bul bi:bis bm:bam bn:ben bo:bod/tib br:bre bs:bos ca:cat ce:che ch:cha co:cos "
    "cr:cre cs:ces/cze cu:chu cv:chv cy:cym/wel da:dan de:deu/ger dv:div dz:dzo ee:ewe el:ell/gre "
    "en:eng eo:epo es:spa et:est eu:eus/baq fa:fas/per ff:ful fi:fin fj:fij fo:fao fr:fra/fre "
    "fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat "
    "hu:hun hy:hye/arm hz:her ia:ina id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl/ice it:ita "
    "iu:iku ja:jpn jv:jav ka:kat/geo kg:kon ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor "
    "kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit "
    "lu:lub lv:lav mg:mlg mh:mah mi:mri/mao mk:mkd/mac ml:mal mn:mon mr:mar ms:msa/may mt:mlt "
    "my:mya/bur na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld/dut nn:nno no:nor nr:nbl nv:nav ny:nya "
    "oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus pt:por qu:que rm:roh rn:run "
    "ro:ron/rum ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin sk:slk/slo sl:slv "
    "sm:smo sn:sna so:som sq:sqi/alb sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel "
    "tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig "
    "uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor za:zha "
    "zh:zho/chi zu:zul"
)
# Spoken by millions, without a code of two letters.
_LONG = ("ceb", "cmn", "fil", "haw", "hmn", "nds", "yue")
_CODE = {name: pair[:2] for pair in _CODES.split(" ") for name in re.split("[:/]", pair)}
_CODE |= {name: name for name in _LONG}
_TAG = re.compile(r"([A-Za-z]{2,3})(?:[-_]\w+)*")
PREFERRED = "en"  # where nobody says which: the language of the vocabulary that is used by default


def code(tag: str) -> str:
    """Returns the code of a language by a tag such as "en", "eng", "en-US"; "" if it is none."""
    match = _TAG.fullmatch(tag)
    return _CODE.get(match[1].lower(), "") if match else ""


def choose(tags: Sequence[str], wanted: str | None) -> int | None:
    """Returns which of several captions to take, by the tags of their languages ("": not known).

    Those of the language that is asked for, of these the one with the very tag first; then those
    without a language, then, unless one is asked for, English, then any. None: there is none.
    """

    def rank(place: int) -> tuple[int, bool, int, str]:
        tag = tags[place]
        order = [code(wanted), ""] if wanted else ["", PREFERRED]
        found = order.index(code(tag)) if code(tag) in order else len(order)
        return found, tag.lower() != (wanted or "").lower(), len(tag), tag

    best = min(range(len(tags)), key=rank, default=None)
    return None if best is None or (wanted and rank(best)[0] == 2) else best


def told(tags: Sequence[str]) -> list[str]:
    """Returns the languages among some tags, each once, in order."""
    return sorted({code(tag) for tag in tags} - {""})
