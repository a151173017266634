"""Pages that commands write: one content, shown as self-contained HTML with plots or as Markdown with tables only."""
