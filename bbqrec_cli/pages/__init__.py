"""Pages that commands write: self-contained HTML with plots, or Markdown with tables only."""
