"""How an answer is made from passages: quoting, citations, abstention, conversation. No ray."""
