"""Reports: one versioned JSON document, and its renderings as page, text and charts."""
