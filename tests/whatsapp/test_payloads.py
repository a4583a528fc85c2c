"""What we post, byte for byte."""

from kaanha.whatsapp.cloud_api.payloads import encode, template_message


def test_a_message_with_variables():
    components = [{"type": "body", "parameters": [{"type": "text", "text": "Zoë"}]}]

    assert template_message(
        to="+15555550142", name="sale", language="en_US", components=encode(components), callback_data="msg_1:1"
    ) == (
        rb'{"messaging_product":"whatsapp","recipient_type":"individual","to":"+15555550142","type":"template",'
        rb'"biz_opaque_callback_data":"msg_1:1","template":{"name":"sale","language":{"code":"en_US"},'
        rb'"components":[{"type":"body","parameters":[{"type":"text","text":"Zo\u00eb"}]}]}}'
    )


def test_without_variables_no_components_are_sent():
    body = template_message(to="+15555550142", name="sale", language="hi", components=encode([]), callback_data="x")

    assert b"components" not in body


def test_a_person_without_a_number_is_reached_by_user_id():
    body = template_message(user_id="US.1", name="sale", language="hi", components=encode([]), callback_data="x")

    assert b'"recipient":"US.1"' in body
    assert b'"to"' not in body
