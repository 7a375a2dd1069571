"""A trained run used: loaded, asked, exported, served."""
