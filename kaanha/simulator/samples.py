"""The templates that every simulated account starts with. All of them are plainly samples."""

from __future__ import annotations

from typing import Any

_OPT_OUT = {"type": "FOOTER", "text": "Reply STOP to opt out"}


def _body(text: str, *examples: str) -> dict[str, Any]:
    return {"type": "BODY", "text": text} | ({"example": {"body_text": [list(examples)]}} if examples else {})


def _named_body(text: str, **examples: str) -> dict[str, Any]:
    parameters = [{"param_name": name, "example": value} for name, value in examples.items()]
    return {"type": "BODY", "text": text, "example": {"body_text_named_params": parameters}}


def _text_header(text: str, *examples: str) -> dict[str, Any]:
    header: dict[str, Any] = {"type": "HEADER", "format": "TEXT", "text": text}
    return header | ({"example": {"header_text": list(examples)}} if examples else {})


def _media_header(kind: str) -> dict[str, Any]:
    handle = f"https://scontent.example.test/sample-{kind.lower()}"
    return {"type": "HEADER", "format": kind, "example": {"header_handle": [handle]}}


def _buttons(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"type": "BUTTONS", "buttons": list(buttons)}


def _reply(text: str) -> dict[str, Any]:
    return {"type": "QUICK_REPLY", "text": text}


def _url(text: str, url: str, *examples: str) -> dict[str, Any]:
    return {"type": "URL", "text": text, "url": url} | ({"example": list(examples)} if examples else {})


def _sample(name: str, category: str, language: str, *components: dict[str, Any], **more: Any) -> dict[str, Any]:
    parts = list(components)
    return {"name": name, "category": category, "language": language, "components": parts, "status": "APPROVED"} | more


_GREEN = {"quality_score": {"score": "GREEN"}}
_NAMED = {"parameter_format": "NAMED"}

SAMPLES: list[dict[str, Any]] = [
    _sample(
        "autumn_sale", "MARKETING", "en_US",
        _body("Hi {{1}}, our autumn sale ends on {{2}}. Come and have a look.", "Asha", "30 November"),
        _OPT_OUT,
        **_GREEN,
    ),
    _sample(
        "new_arrivals", "MARKETING", "en_US",
        _named_body("Hello {{first_name}}, the new collection has arrived. See you soon!", first_name="Asha"),
        _OPT_OUT,
        **_NAMED, **_GREEN,
    ),
    _sample(
        "order_update", "UTILITY", "en_US",
        _body("Hi {{1}}, your order {{2}} is on its way.", "Asha", "A-1001"),
        **_GREEN,
    ),
    _sample(
        "autumn_sale_image", "MARKETING", "en_US",
        _media_header("IMAGE"),
        _body("Hi {{1}}, our autumn sale ends on {{2}}. Tap below for your page.", "Asha", "30 November"),
        {"type": "FOOTER", "text": "Tap below to stop these messages"},
        _buttons(_reply("Unsubscribe"), _url("Shop", "https://shop.example.test/{{1}}", "https://shop.example.test/a1")),
        **_GREEN,
    ),
    _sample(
        "sale_reminder", "MARKETING", "en_US",
        _text_header("Last days, {{1}}!", "Asha"),
        _body("There are {{1}} days left in our sale. We would love to see you.", "3"),
        _OPT_OUT,
        _buttons(_reply("Tell me more"), _reply("Not for me")),
        **_GREEN,
    ),
    _sample(
        "diwali_offer", "MARKETING", "hi",
        _body("नमस्ते {{1}}, दिवाली पर आपके लिए {{2}} की छूट है। जल्दी आइए।", "आशा", "20%"),
        {"type": "FOOTER", "text": "बंद करने के लिए STOP लिखें"},
        **_GREEN,
    ),
    _sample(
        "autumn_sale", "MARKETING", "es",
        _body("Hola {{1}}, nuestra oferta de otoño termina el {{2}}. ¡Te esperamos!", "Lucía", "30 de noviembre"),
        {"type": "FOOTER", "text": "Responde STOP para darte de baja"},
        **_GREEN,
    ),
    _sample(
        "welcome_offer", "MARKETING", "ar",
        _named_body("مرحبا {{first_name}}، لدينا عرض خاص لك هذا الأسبوع.", first_name="نور"),
        {"type": "FOOTER", "text": "أرسل STOP للإلغاء"},
        **_NAMED, **_GREEN,
    ),
    _sample(
        "season_greetings", "MARKETING", "en_US",
        _body("The season has changed, and so have our shelves. Drop in whenever you like."),
        _OPT_OUT,
    ),
    _sample(
        "invoice_ready", "UTILITY", "en_US",
        _media_header("DOCUMENT"),
        _body("Hi {{1}}, the invoice for your order {{2}} is attached. Thank you!", "Asha", "A-1001"),
        **_GREEN,
    ),
    _sample(
        "appointment_reminder", "UTILITY", "en_US",
        _text_header("Your appointment"),
        _named_body(
            "Hello {{first_name}}, we expect you on {{date}} at {{time}} in our shop.",
            first_name="Asha", date="30 November", time="10:30",
        ),
        _buttons(_reply("Confirm"), _reply("Reschedule")),
        **_NAMED, **_GREEN,
    ),
    _sample(
        "order_update", "UTILITY", "hi",
        _body("नमस्ते {{1}}, आपका ऑर्डर {{2}} रास्ते में है।", "आशा", "A-1001"),
    ),
    _sample(
        "order_update", "UTILITY", "es",
        _body("Hola {{1}}, tu pedido {{2}} está en camino.", "Lucía", "A-1001"),
    ),
    _sample(
        "track_order", "UTILITY", "en_US",
        _body("Hi {{1}}, you can follow your order with the button below.", "Asha"),
        _buttons(_url("Track", "https://shop.example.test/orders/{{1}}", "https://shop.example.test/orders/A-1001"),
                 {"type": "PHONE_NUMBER", "text": "Call us", "phone_number": "+15555550100"}),
    ),
    _sample(
        "cart_saved", "UTILITY", "en_US",
        _body("Hi {{1}}, we have put your cart aside for you.", "Asha"),
        **_GREEN,
    ),
    _sample(
        "thank_you", "UTILITY", "en_US",
        _body("Hi {{1}}, thank you for your order. It is being packed.", "Asha"),
        **_GREEN,
    ),
    _sample(
        "last_chance", "MARKETING", "en_US",
        _body("Hi {{1}}, your cart will be emptied tonight. Have another look.", "Asha"),
        _OPT_OUT,
        **_GREEN,
    ),
    _sample(
        "login_code", "AUTHENTICATION", "en_US",
        {"type": "BODY", "text": "{{1}} is your verification code.", "add_security_recommendation": True,
         "example": {"body_text": [["123456"]]}},
        {"type": "FOOTER", "text": "This code expires in 5 minutes.", "code_expiration_minutes": 5},
        _buttons({"type": "URL", "text": "Copy code", "url": "https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code=otp{{1}}",
                  "example": ["https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code=otp123456"]}),
    ),
    _sample(
        "winter_preview", "MARKETING", "en_US",
        _body("Hi {{1}}, be the first to see our winter collection.", "Asha"),
        status="PENDING",
    ),
    _sample(
        "win_a_car", "MARKETING", "en_US",
        _body("Hi {{1}}, you have won. Send us your bank details today.", "Asha"),
        status="REJECTED", rejected_reason="SCAM",
    ),
    _sample(
        "flash_deal", "MARKETING", "en_US",
        _body("Hi {{1}}, this deal ends within the hour. Come quickly.", "Asha"),
        status="PAUSED", quality_score={"score": "RED"},
    ),
    _sample(
        "old_newsletter", "MARKETING", "en_US",
        _body("Hi {{1}}, here is the news of the month from us.", "Asha"),
        status="DISABLED", quality_score={"score": "RED"},
    ),
]  # fmt: skip
