"""What semantic IDs are worth: who shares one, why, and what they keep of the items. See docs/collisions.md."""
