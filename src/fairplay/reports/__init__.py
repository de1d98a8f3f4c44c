"""From records to figures and one self-contained HTML page. Floor 5."""
