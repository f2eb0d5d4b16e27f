"""The GraphQL documents of W&B's interface that a run needs."""

from typing import Final

UPSERT: Final = """
mutation UpsertBucket(
  $id: String, $name: String, $project: String, $entity: String, $groupName: String,
  $displayName: String, $notes: String, $commit: String, $config: JSONString, $host: String,
  $program: String, $jobType: String, $tags: [String!]
) {
  upsertBucket(input: {
    id: $id, name: $name, modelName: $project, entityName: $entity, groupName: $groupName,
    displayName: $displayName, notes: $notes, commit: $commit, config: $config, host: $host,
    jobProgram: $program, jobType: $jobType, tags: $tags
  }) {
    bucket { id name project { name entity { name } } historyLineCount }
    inserted
  }
}
"""

STATUS: Final = """
query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    entity { name }
    bucket(name: $name, missingOk: true) {
      id name summaryMetrics historyLineCount eventsLineCount logLineCount historyTail
      config wandbConfig(keys: ["t"])
    }
  }
}
"""

VIEWER: Final = """
query Viewer { viewer { entity username } }
"""

ALERT: Final = """
mutation NotifyScriptableRunAlert(
  $entityName: String!, $projectName: String!, $runName: String!, $title: String!,
  $text: String!, $severity: AlertSeverity, $waitDuration: Duration
) {
  notifyScriptableRunAlert(input: {
    entityName: $entityName, projectName: $projectName, runName: $runName, title: $title,
    text: $text, severity: $severity, waitDuration: $waitDuration
  }) { success }
}
"""

RUN_FILES: Final = """
mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
  createRunFiles(input: {
    entityName: $entity, projectName: $project, runName: $run, files: $files
  }) { runID uploadHeaders files { name uploadUrl } }
}
"""

ARTIFACT: Final = """
mutation CreateArtifact($input: CreateArtifactInput!) {
  createArtifact(input: $input) {
    artifact { id state artifactSequence { latestArtifact { id } } }
  }
}
"""

MANIFEST: Final = """
mutation CreateArtifactManifest(
  $artifactID: ID!, $baseArtifactID: ID, $name: String!, $digest: String!, $entityName: String!,
  $projectName: String!, $runName: String!, $manifestType: ArtifactManifestType!,
  $includeUpload: Boolean!
) {
  createArtifactManifest(input: {
    artifactID: $artifactID, baseArtifactID: $baseArtifactID, name: $name, digest: $digest,
    entityName: $entityName, projectName: $projectName, runName: $runName, type: $manifestType
  }) {
    artifactManifest {
      id
      file {
        id uploadUrl @include(if: $includeUpload) uploadHeaders @include(if: $includeUpload)
      }
    }
  }
}
"""

ARTIFACT_FILES: Final = """
mutation CreateArtifactFiles($input: CreateArtifactFilesInput!) {
  createArtifactFiles(input: $input) {
    files {
      edges {
        node {
          storagePath uploadUrl uploadHeaders artifact { id }
          uploadMultipartUrls { uploadID uploadUrlParts { partNumber uploadUrl } }
        }
      }
    }
  }
}
"""

COMPLETE: Final = """
mutation CompleteMultipartUploadArtifact(
  $completeMultipartAction: CompleteMultipartAction!, $completedParts: [UploadPartsInput!]!,
  $artifactID: ID!, $storagePath: String!, $uploadID: String!
) {
  completeMultipartUploadArtifact(input: {
    completeMultipartAction: $completeMultipartAction, completedParts: $completedParts,
    artifactID: $artifactID, storagePath: $storagePath, uploadID: $uploadID
  }) { digest }
}
"""

COMMIT: Final = """
mutation CommitArtifact($artifactID: ID!) {
  commitArtifact(input: {artifactID: $artifactID}) { artifact { id digest } }
}
"""
