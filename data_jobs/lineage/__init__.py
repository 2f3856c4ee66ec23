"""Where things came from and what they went into; receipts, audits, and what nothing needs any more."""
