"""What a network learns per step: recipes, trained and scored on identities left out."""
