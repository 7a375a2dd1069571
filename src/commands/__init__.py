"""What each command does: reads its checked configuration, prints, writes files."""
