"""Meta's WhatsApp Cloud API as a library: requests, answers, errors, callbacks and their signature.

Knows nothing of Kaanha's rows or settings: addresses, tokens and times are arguments.
"""
