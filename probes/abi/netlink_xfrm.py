"""Defines the messages of NETLINK_XFRM, which are about IPsec: their structures, and the values of their attributes.

Source: include/uapi/linux/xfrm.h; net/xfrm/xfrm_user.c. Two structures end in padding that i386 has less of.
"""

from __future__ import annotations

from typing import Final

from probes.abi import options
from probes.abi.layouts import INT, U8, U16, U32, U64, Layout, Type
from probes.abi.netlink_layouts import (
    ADDRESS,
    FAMILY16,
    IP_PROTOCOL,
    PORT,
    Message,
    big_endian,
    bits,
    named,
    numbered,
    within,
)
from probes.abi.netlink_names import TABLES
from probes.abi.sockaddr import printable

_GETSA: Final = 0x12
_DUMP: Final = 0x300
_STATE = numbered("XFRM_STATE_", "NOECN", "DECAP_DSCP", "NOPMTUDISC", "WILDRECV", "ICMP", "AF_UNSPEC", "ALIGN4", "ESN")
_POLICY = numbered("XFRM_POLICY_", "LOCALOK", "ICMP", "CPU_ACQUIRE")
_EVENT = numbered("XFRM_AE_", "RTHR", "RVAL", "LVAL", "ETHR", "CR", "CE", "CU")
_OFFLOAD = numbered("XFRM_OFFLOAD_", "IPV6", "INBOUND", "PACKET")
_EXTRA = numbered("XFRM_SA_XFLAG_", "DONT_ENCAP_DSCP", "OSEQ_MAY_WRAP")

_LIMIT = Type("Q", lambda number: "XFRM_INF" if number == 2**64 - 1 else number)
_MODE, _DIR, _SHARE = named("B", "XFRM_MODE"), named("B", "XFRM_POLICY"), named("B", "XFRM_SHARE")
_ACTION = Type("B", lambda number: {0: "XFRM_POLICY_ALLOW", 1: "XFRM_POLICY_BLOCK"}.get(number, number))
_DEFAULT = named("B", "XFRM_USERPOLICY")
_MASK = Type("I", lambda number: hex(number) if number else 0)
_NAME = Type("64s", lambda raw: {"text": printable(raw.rstrip(b"\0"))})


def _padded(member: Type, count: int) -> Type:
    return Type(f"{member.code}{count}x", member.show)


SELECTOR = Layout(daddr=ADDRESS, saddr=ADDRESS, dport=PORT, dport_mask=PORT, sport=PORT, sport_mask=PORT,
                  family=FAMILY16, prefixlen_d=U8, prefixlen_s=U8, proto=_padded(IP_PROTOCOL, 3), ifindex=INT,
                  user=U32)  # fmt: skip
ID = Layout(daddr=ADDRESS, spi=big_endian(4), proto=_padded(IP_PROTOCOL, 3))
LIFETIME_CFG = Layout(soft_byte_limit=_LIMIT, hard_byte_limit=_LIMIT, soft_packet_limit=_LIMIT,
                      hard_packet_limit=_LIMIT, soft_add_expires_seconds=U64, hard_add_expires_seconds=U64,
                      soft_use_expires_seconds=U64, hard_use_expires_seconds=U64)  # fmt: skip
LIFETIME_CUR = Layout(bytes=U64, packets=U64, add_time=U64, use_time=U64)
STATS = Layout(replay_window=U32, replay=U32, integrity_failed=U32)
_INFO = {"sel": within(SELECTOR), "id": within(ID), "saddr": ADDRESS, "lft": within(LIFETIME_CFG),
         "curlft": within(LIFETIME_CUR), "stats": within(STATS), "seq": U32, "reqid": U32, "family": FAMILY16,
         "mode": _MODE, "replay_window": U8}  # fmt: skip
_STATE_FLAGS = bits("B", _STATE)
USERSA_INFO = {
    32: Layout(**_INFO, flags=_padded(_STATE_FLAGS, 3)),
    64: Layout(**_INFO, flags=_padded(_STATE_FLAGS, 7)),
}
USERSA_ID = Layout(daddr=ADDRESS, spi=big_endian(4), family=FAMILY16, proto=_padded(IP_PROTOCOL, 1))
_POLICY_INFO = {"sel": within(SELECTOR), "lft": within(LIFETIME_CFG), "curlft": within(LIFETIME_CUR), "priority": U32,
                "index": U32, "dir": _DIR, "action": _ACTION, "flags": bits("B", _POLICY)}  # fmt: skip
USERPOLICY_INFO = {32: Layout(**_POLICY_INFO, share=_SHARE), 64: Layout(**_POLICY_INFO, share=_padded(_SHARE, 4))}
USERPOLICY_ID = Layout(sel=within(SELECTOR), index=U32, dir=_padded(_DIR, 3))
USERSPI_INFO = {word: Layout(info=within(info), min=U32, max=U32) for word, info in USERSA_INFO.items()}
USER_ACQUIRE = {
    word: Layout(id=within(ID), saddr=ADDRESS, sel=within(SELECTOR), policy=within(policy), aalgos=_MASK,
                 ealgos=_MASK, calgos=_MASK, seq=U32)
    for word, policy in USERPOLICY_INFO.items()
}  # fmt: skip
USER_EXPIRE = {
    word: Layout(state=within(info), hard=_padded(U8, 3 if word == 32 else 7)) for word, info in USERSA_INFO.items()
}
USER_POLEXPIRE = {
    word: Layout(pol=within(info), hard=_padded(U8, 3 if word == 32 else 7)) for word, info in USERPOLICY_INFO.items()
}
USERSA_FLUSH = Layout(proto=IP_PROTOCOL)
AEVENT_ID = Layout(sa_id=within(USERSA_ID), saddr=ADDRESS, flags=bits("I", _EVENT), reqid=U32)
USER_REPORT = Layout(proto=_padded(IP_PROTOCOL, 3), sel=within(SELECTOR))
USER_MAPPING = Layout(id=within(USERSA_ID), reqid=U32, old_saddr=ADDRESS, new_saddr=ADDRESS, old_sport=PORT,
                      new_sport=PORT)  # fmt: skip
USERPOLICY_DEFAULT = Layout(**{"in": _DEFAULT, "fwd": _DEFAULT, "out": _DEFAULT})
USER_TMPL = Layout(id=within(ID), family=_padded(FAMILY16, 2), saddr=ADDRESS, reqid=U32, mode=_MODE, share=_SHARE,
                   optional=_padded(U8, 1), aalgos=_MASK, ealgos=_MASK, calgos=_MASK)  # fmt: skip
ENCAP_TMPL = Layout(encap_type=U16, encap_sport=PORT, encap_dport=big_endian(2, 2), encap_oa=ADDRESS)
REPLAY_STATE = Layout(oseq=U32, seq=U32, bitmap=_MASK)
REPLAY_STATE_ESN = Layout(bmp_len=U32, oseq=U32, seq=U32, oseq_hi=U32, seq_hi=U32, replay_window=U32)
ALGO = Layout(alg_name=_NAME, alg_key_len=U32)
ALGO_AUTH = Layout(alg_name=_NAME, alg_key_len=U32, alg_trunc_len=U32)
ALGO_AEAD = Layout(alg_name=_NAME, alg_key_len=U32, alg_icv_len=U32)
USER_SEC_CTX = Layout(len=U16, exttype=U16, ctx_alg=U8, ctx_doi=U8, ctx_len=U16)
USERPOLICY_TYPE = Layout(type=_padded(named("B", "XFRM_POLICY_TYPE"), 1), reserved1=U16, reserved2=_padded(U8, 1))
MARK = Layout(v=U32, m=U32)
ADDRESS_FILTER = Layout(saddr=ADDRESS, daddr=ADDRESS, family=FAMILY16, splen=U8, dplen=U8)
USER_OFFLOAD = Layout(ifindex=INT, flags=_padded(bits("B", _OFFLOAD), 3))
USER_KMADDRESS = Layout(local=ADDRESS, remote=ADDRESS, reserved=U32, family=_padded(FAMILY16, 2))
USER_MIGRATE = Layout(old_daddr=ADDRESS, old_saddr=ADDRESS, new_daddr=ADDRESS, new_saddr=ADDRESS, proto=IP_PROTOCOL,
                      mode=_MODE, reserved=U16, reqid=U32, old_family=FAMILY16, new_family=FAMILY16)  # fmt: skip
SADHINFO = Layout(sadhcnt=U32, sadhmcnt=U32)
SPDINFO = Layout(incnt=U32, outcnt=U32, fwdcnt=U32, inscnt=U32, outscnt=U32, fwdscnt=U32)
SPDHINFO = Layout(spdhcnt=U32, spdhmcnt=U32)
SPDHTHRESH = Layout(lbits=U8, rbits=U8)

_FLAGS = Layout(flags=U32)
_LAYOUTS: Final[dict[int, Layout | dict[int, Layout]]] = {
    0x10: USERSA_INFO, 0x11: USERSA_ID, _GETSA: USERSA_ID, 0x13: USERPOLICY_INFO, 0x14: USERPOLICY_ID,
    0x15: USERPOLICY_ID, 0x16: USERSPI_INFO, 0x17: USER_ACQUIRE, 0x18: USER_EXPIRE, 0x19: USERPOLICY_INFO,
    0x1A: USERSA_INFO, 0x1B: USER_POLEXPIRE, 0x1C: USERSA_FLUSH, 0x1D: Layout(), 0x1E: AEVENT_ID, 0x1F: AEVENT_ID,
    0x20: USER_REPORT, 0x21: USERPOLICY_ID, 0x22: _FLAGS, 0x23: _FLAGS, 0x24: _FLAGS, 0x25: _FLAGS,
    0x26: USER_MAPPING, 0x27: USERPOLICY_DEFAULT, 0x28: USERPOLICY_DEFAULT,
}  # fmt: skip
_ATTRIBUTES: Final = {0x22: "XFRMA_SAD", 0x23: "XFRMA_SAD", 0x24: "XFRMA_SPD", 0x25: "XFRMA_SPD"}


def message_of(number: int, flags: int, word: int) -> Message | None:
    """Return what a message of this type consists of, None if it is not known here."""
    if number == _GETSA and flags & _DUMP:
        return Message(Layout(), "XFRMA", hosts=True)  # (Attributes follow the header at once: xfrm_dump_sa.)
    layout = _LAYOUTS.get(number)
    if layout is None:
        return None
    of_word = layout if isinstance(layout, Layout) else layout[word]
    return Message(of_word, _ATTRIBUTES.get(number, "XFRMA"), hosts=True)


STRUCTURES: Final[dict[str, Layout]] = {
    "XFRMA_ENCAP": ENCAP_TMPL, "XFRMA_LTIME_VAL": LIFETIME_CUR, "XFRMA_REPLAY_VAL": REPLAY_STATE,
    "XFRMA_POLICY_TYPE": USERPOLICY_TYPE, "XFRMA_KMADDRESS": USER_KMADDRESS, "XFRMA_MARK": MARK,
    "XFRMA_ADDRESS_FILTER": ADDRESS_FILTER, "XFRMA_OFFLOAD_DEV": USER_OFFLOAD, "XFRMA_SAD_HINFO": SADHINFO,
    "XFRMA_SPD_INFO": SPDINFO, "XFRMA_SPD_HINFO": SPDHINFO, "XFRMA_SPD_IPV4_HTHRESH": SPDHTHRESH,
    "XFRMA_SPD_IPV6_HTHRESH": SPDHTHRESH,
}  # fmt: skip
#: Attributes that are a structure of another size on i386.
OF_WORD: Final = {"XFRMA_SA": USERSA_INFO, "XFRMA_POLICY": USERPOLICY_INFO}
#: Attributes that are a structure, or several.
ARRAYS: Final[dict[str, Layout]] = {"XFRMA_TMPL": USER_TMPL, "XFRMA_MIGRATE": USER_MIGRATE}
#: Attributes that are a structure with bytes behind it, and the name of those.
TAILED: Final[dict[str, tuple[Layout, str]]] = {
    "XFRMA_ALG_AUTH": (ALGO, "alg_key"), "XFRMA_ALG_CRYPT": (ALGO, "alg_key"), "XFRMA_ALG_COMP": (ALGO, "alg_key"),
    "XFRMA_ALG_AEAD": (ALGO_AEAD, "alg_key"), "XFRMA_ALG_AUTH_TRUNC": (ALGO_AUTH, "alg_key"),
    "XFRMA_SEC_CTX": (USER_SEC_CTX, "ctx_str"), "XFRMA_REPLAY_ESN_VAL": (REPLAY_STATE_ESN, "bmp"),
}  # fmt: skip
BITS: Final = {"XFRMA_SA_EXTRA_FLAGS": _EXTRA}
NAMED: Final = {"XFRMA_PROTO": options.PROTOCOLS, "XFRMA_SA_DIR": TABLES["XFRM_SA_DIR"]}
