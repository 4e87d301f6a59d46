"""Map records over this process or over several, and remember what is done."""
