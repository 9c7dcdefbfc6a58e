"""From images and prompts to scores."""
